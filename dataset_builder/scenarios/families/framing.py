"""Paraphrases: a question is set into a situation, so that no two users of a large collection say the same.

Situations and closing words are parted by split like the families themselves: what a model was trained on never frames
a test question.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from t3_agents.task import Task


@dataclass(frozen=True)
class _Frames:
    """Sentences around a question: before it, after it, and a short ending."""

    before: tuple[str, ...]
    after: tuple[str, ...]
    endings: tuple[str, ...]


# `{who}` is a person that the user knows, `{what}` what the user is busy with.
_FRAMES = {
    "train": _Frames(
        before=(
            "I am helping {who} with {what}.",
            "{who} and I are busy with {what}.",
            "My work on {what} is not done yet, and {who} waits for it.",
            "{who} asked me about this for {what}.",
            "This is for {what} that {who} looks after.",
            "I promised {who} to sort this out for {what}.",
            "While I prepare {what}, {who} wants to know this.",
            "For {what} I have to report to {who}.",
            "{who} started {what} and left this open.",
            "I took over {what} from {who}.",
            "There is one thing missing in {what}, says {who}.",
            "{who} will check {what} tonight.",
        ),
        after=(
            "I need it for {what} with {who}.",
            "{who} needs it for {what}.",
            "I will pass it on to {who} for {what}.",
            "It goes into {what}, and {who} reads it.",
            "{who} and I want to finish {what} with it.",
            "It is the last thing that {what} lacks before {who} gets it.",
            "Then {who} can go on with {what}.",
            "I owe this to {who} because of {what}.",
        ),
        endings=("", "", "Thank you!", "The answer alone is enough.", "Please be exact.", "Take your time."),
    ),
    "validation": _Frames(
        before=(
            "In the middle of {what}, {who} rang me up.",
            "Over coffee {who} brought up {what}.",
            "Without {who} I am lost in {what}.",
            "Nobody but {who} and me cares for {what}.",
        ),
        after=(
            "Without it {who} cannot close {what}.",
            "Only then may {who} call {what} complete.",
            "So far {who} has nothing for {what}.",
        ),
        endings=("", "Many thanks in advance.", "A short reply will do."),
    ),
    "test": _Frames(
        before=(
            "Together with {who} I was handed {what}.",
            "{who} insists that {what} must be right.",
            "Because of {what}, {who} keeps writing to me.",
            "Tomorrow {who} presents {what}.",
        ),
        after=(
            "Otherwise {who} will stop {what}.",
            "Both {who} and {what} depend on it.",
            "Once I know, {who} may print {what}.",
        ),
        endings=("", "I am grateful for any help.", "Just tell me the result."),
    ),
}
_RELATIONS = tuple(
    """my colleague;my neighbour;my friend;my aunt;my uncle;my cousin;my teacher;my boss;my partner;my brother;
    my sister;my flatmate;our trainee;our client;our guide;our accountant;our editor;our librarian;
    my grandson;my godmother;our landlord;our treasurer;my tutor;our driver""".replace("\n    ", "").split(";")
)
_NAMES = tuple(
    """Priya Gustav Amara Bela Chiara Dario Eero Fatima Giulia Hana Ismael Jana Kofi Leila Mateo Noor Otto Paloma
    Quentin Ravi Saskia Timo Ursula Vera Wanda Xenia Yusuf Zoltan Agnes Birgit Carlo Dunja Emil Flora Gwen Hector
    Ines Jasper Katya Lorenz""".split()
)
_COMMON = tuple(
    """a quiz night;a school paper;a small report;the club newsletter;a talk at work;a scrapbook;the notice board;
    an evening class;a letter home;a wager;our yearly review;the family archive;a puzzle for the children;
    the course folder;a speech""".replace("\n    ", "").split(";")
)
# No purpose holds a number or says how a question is solved.
_PURPOSES = {
    "finance": "the yearly budget;a tax return;the audit;a loan request;our savings plan;the cash book",
    "culture": "an exhibition;the theatre season;a museum guide;a folk festival;the arts page;a gallery tour",
    "history": "a history lesson;a family chronicle;the local archive;a memorial;a biography;a heritage walk",
    "food": "a cookery course;the canteen;a family dinner;our food stall;a tasting;the harvest party",
    "environment": "a climate report;the nature reserve;our green week;a planting day;the city council;an eco fair",
    "health": "a check-up;the health fair;a patient leaflet;our sports class;the ward meeting;a care plan",
    "travel": "a round trip;our holiday;the travel blog;a train journey;a business trip;the tour plan",
    "entertainment": "a game night;the film club;our school show;a children's party;the variety evening;a TV quiz",
    "social": "a reunion;the street party;a wedding;our charity day;the youth club;a neighbourhood meeting",
    "science": "a lab report;the science fair;my thesis;a physics class;our field study;a research note",
    "transportation": "a route plan;the fleet review;a delivery round;the bus timetable;our car pool;a freight file",
    "geography": "a geography test;an atlas;a map project;our expedition;the world corner;a country portrait",
    "technology": "the IT inventory;a product launch;our help desk;a pitch;the device register;a hardware test",
    "sports": "the league table;a training camp;our sports day;a hiking week;the club record;a charity run",
    "nature": "a bird walk;the garden club;a nature diary;our park survey;a forest trail;the wildlife column",
    "others": "a house move;the tenants' meeting;our storage room;a flea market;the parish letter;a hobby room",
}


def query_key(query: str) -> str:
    """A query without what does not make it another one: case and blanks."""
    return " ".join(query.casefold().split())


def framed(task: Task, split: str, rng: random.Random) -> Task:
    """The same task in other words.

    Args:
        task ([`~t3_agents.task.Task`]): with the bare question of its family.
        split (`str`): `train`, `validation` or `test`.
        rng (`random.Random`): chooses the frame.

    Returns:
        [`~t3_agents.task.Task`]: with another query, and so with another id.
    """
    frames = _FRAMES[split]
    # Where only the look of the picture may tell the tool, the subject must not.
    purposes = _COMMON if task.origin.get("vision_only") else (*_PURPOSES[task.domain].split(";"), *_COMMON)
    slots = {"who": f"{rng.choice(_RELATIONS)} {rng.choice(_NAMES)}", "what": rng.choice(purposes)}
    before = rng.random() < 0.6
    sentence = rng.choice(frames.before if before else frames.after).format(**slots)
    sentence = sentence[0].upper() + sentence[1:]
    parts = [sentence, task.query] if before else [task.query, sentence]
    query = " ".join(filter(None, (*parts, rng.choice(frames.endings))))
    fresh = Task.create(query, task.files)
    return replace(task, id=fresh.id, query=query)
