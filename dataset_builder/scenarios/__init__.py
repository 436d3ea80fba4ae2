"""The offline teacher: families of tasks with known answers and programs that solve them."""

from .base import DOMAINS, TOOL_NAMES, Move, Scenario, ScenarioTask, make_task, validate
from .documents import ClinicLetter, InvoiceKey, OrderDelivery, ProjectSlides, RentContract
from .lookups import AirportPair, AreaShare, CoastTrip, EmblemColors, SpeakerIndependence, TicketCode
from .pictures import (
    BoardingPass,
    ConcertPoster,
    DevicePlate,
    GameBoard,
    GroupTicket,
    MedicineLabel,
    RainChart,
    ReceiptTip,
    RotatedLabel,
    TwoBills,
)
from .tables import BirdCounts, DeviceRecord, EnergyReadings, MatchScores, ShopSales
from .vision_only import LookPeople, LookShapes, LookSlip


__all__ = [
    "DOMAINS",
    "SCENARIOS",
    "TOOL_NAMES",
    "Move",
    "Scenario",
    "ScenarioTask",
    "make_task",
    "seen",
    "unseen",
    "validate",
    "vision_only",
]

SCENARIOS: tuple[Scenario, ...] = (
    ReceiptTip(),
    TwoBills(),
    RainChart(),
    MedicineLabel(),
    DevicePlate(),
    ConcertPoster(),
    RotatedLabel(),
    GameBoard(),
    GroupTicket(),
    InvoiceKey(),
    ClinicLetter(),
    ProjectSlides(),
    OrderDelivery(),
    MatchScores(),
    ShopSales(),
    BirdCounts(),
    DeviceRecord(),
    CoastTrip(),
    TicketCode(),
    SpeakerIndependence(),
    AirportPair(),
    LookSlip(),
    LookPeople(),
    LookShapes(),
    BoardingPass(),
    RentContract(),
    EnergyReadings(),
    AreaShare(),
    EmblemColors(),
)


def seen() -> tuple[Scenario, ...]:
    """Families for training."""
    return tuple(scenario for scenario in SCENARIOS if not scenario.unseen)


def unseen() -> tuple[Scenario, ...]:
    """Families that are kept out of training."""
    return tuple(scenario for scenario in SCENARIOS if scenario.unseen)


def vision_only() -> tuple[Scenario, ...]:
    """Families where only the look of the picture tells which tool is right."""
    return tuple(scenario for scenario in SCENARIOS if scenario.vision_only)
