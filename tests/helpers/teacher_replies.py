"""What the scripted teacher of the synthesis tests says: a function of the request alone, for every stage.

Requests are told apart by the stage that the system prompt names; a request without one is a turn of the solving
agent. Whatever differs between two replies is decided by a hash of the query, so a run that is killed and started
again is told the same.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from tests.helpers.teacher_programs import HOSTILE_PROGRAMS, WRONG_PROGRAMS, file_program
from tests.helpers.tiny_vlm import turn


# domain, who speaks, the table, what it counts, its unit, what it is counted by
_TOPICS = [
    tuple(line.split(" | "))
    for line in """\
finance | I keep the books of a bakery | ledger | spending | euros | flour butter sugar rent packaging
food | We run a canteen | kitchen log | portions | plates | lasagne goulash falafel risotto ramen
environment | Our club measures rain | rain diary | rainfall | mm | Harbour Hilltop Airport Orchard Quarry
health | I am a school nurse | visit register | visits | pupils | fever asthma bruises allergy migraine
travel | I plan trips for pensioners | booking sheet | bookings | seats | Lisbon Vienna Malta Zadar Ghent
culture | I look after a town museum | visitor count | visitors | people | coins pottery maps looms clocks
history | I study old harbour registers | register | arrivals | ships | brigs schooners cogs galleys luggers
sports | I coach a running team | training log | distance | km | Ines Matteo Yuki Priya Callum
science | My lab grows algae | lab notebook | growth | mg | chlorella spirulina nori kelp dulse
technology | I operate the servers of a clinic | incident list | outages | minutes | mail router backup scanner login
transportation | I schedule our ferries | timetable report | delays | minutes | Kestrel Puffin Heron Tern Osprey
entertainment | I book films for a cinema | screening list | tickets | seats | western musical thriller silent noir
social | I coordinate volunteers of a shelter | shift roster | hours | hours | cooking laundry driving reception garden
nature | I ring birds in a marsh | ringing list | catches | birds | wren bunting warbler lapwing dunlin
geography | I survey springs in a valley | survey table | flow | litres | Mossy Granite Chapel Willow Upper
others | I mend bikes at a market | repair book | repairs | bikes | brakes chains saddles spokes lights""".split("\n")
]
_PERIODS = ("January", "February", "March", "April", "May", "June", "September", "October")
_KINDS = ("xlsx", "pdf", "csv", "docx", "xlsx", "pdf", "pptx", "txt", "json", "html", "md", "xml")
PLAIN_KINDS = ("csv", "txt", "json", "html", "md", "xml")
"""Documents that need no library, which takes up to a second of a processor to import."""
_PRIVATE = PurePosixPath("/", "home", "teacher", "notes")
_COUNTRIES = "Norway Chile Kenya Japan Portugal Iceland Mongolia Ghana Peru Austria Nepal Finland Bolivia Oman".split()
_SITUATIONS = (
    "and have to report to the council on Friday",
    "and my predecessor left everything in one document",
    "and nobody else has time for the numbers",
    "and want to order supplies before the holidays",
    "and need one figure for a poster",
    "and a journalist has asked me about it",
    "and have doubts about what my colleague told me",
    "and would like to apply for a grant",
)
_FRIENDS = "Aino Bogdan Chiara Dilip Esra Farid Gwen Hiroshi Ilse Jorge Kofi Lieke Malik Noor Oskar Petra".split()


def reply_to(request: dict[str, Any], kinds: tuple[str, ...] = _KINDS) -> tuple[str, str]:
    """The stage that asks, `solve` for a turn of the agent, and what the teacher, who plans documents of these kinds,
    says to a request of the OpenAI chat protocol."""
    turns = [(message["role"], _text(message["content"])) for message in request["messages"]]
    system = turns[0][1] if turns[0][0] == "system" else ""
    asked = next(text for role, text in turns if role == "user")
    stage = re.search(r"Stage: (\w+)\.", system)
    if stage is None:
        return "solve", _turn(turns)
    say = {
        "queries": _queries,
        "plan_files": partial(_plan, kinds=kinds),
        "make_files": _program,
        "verify_files": _verdict_on_files,
        "verify_trajectory": _verdict_on_trajectory,
    }[stage[1]]
    return stage[1], json.dumps(say(asked), ensure_ascii=False)


def share(key: str, kind: str) -> float:
    """A number in [0, 1) that depends on the two words alone."""
    return int.from_bytes(hashlib.blake2b(f"{kind}\0{key}".encode(), digest_size=6).digest(), "big") / 2**48


def _text(content: str | list[dict[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    return "\n\n".join(part["text"] for part in content if part["type"] == "text")


# Queries


def _queries(asked: str) -> dict[str, Any]:
    count, batch = re.search(r"Write (\d+) new requests \(batch ([\d.]+)\)", asked).groups()
    make = _gta_query if "one or more pictures" in asked else _gaia_query
    queries = []
    for number in range(int(count)):
        rng = random.Random(f"{batch}-{number}")
        query = make(rng)
        wrong = rng.random()
        if wrong < 0.03:
            query["query"] = make(random.Random("a favourite that comes up again and again"))["query"]
        elif wrong < 0.05:
            query["query"] = f"Open totals.xlsx, please. {query['query']}"
        elif wrong < 0.07:
            query["tools"] = ["web_browser", "calculator"]
        queries.append(query)
    return {"queries": queries}


def _gaia_query(rng: random.Random) -> dict[str, Any]:
    domain, who, table, measure, unit, names = rng.choice(_TOPICS)
    name, other = rng.sample(names.split(), 2)
    start = f"{who} {rng.choice(_SITUATIONS)}; {rng.choice(_FRIENDS)} from {rng.choice(_COUNTRIES)} helps me."
    kind = rng.randrange(6)
    if kind == 0:
        first, second = rng.sample(_COUNTRIES, 2)
        what = rng.choice(("population", "area"))
        text = f"{start} For my talk: how much larger is the {what} of {first} than that of {second}?"
        return {"query": text, "tools": ["ask_search_agent"], "domain": "geography"}
    tasks = (
        f"According to my {table}, what is the total {measure} for {name}, in {unit}?",
        f"In my {table}, by how many {unit} do the {measure} of {name} differ from those of {other} in total?",
        f"How many {unit} are left of {rng.randint(900, 4000)} after all {measure} for {name} in my {table}?",
        f"What are the average {measure} for {name} per month, in {unit}, as my {table} has it?",
    )
    if kind == 5:
        text = f"{start} My {table} is for this year, the other file for last year. "
        text += f"What do both say together about the total {measure} for {name}, in {unit}?"
    else:
        text = f"{start} {tasks[kind - 1]}"
    return {"query": text, "tools": ["inspect_file_as_text"], "domain": domain}


def _gta_query(rng: random.Random) -> dict[str, Any]:
    friend, other = rng.sample(_FRIENDS, 2)
    place = rng.choice(_COUNTRIES)
    where = f"on our way through {place} in {rng.choice(_PERIODS)} {rng.randint(2001, 2024)}"
    kind = rng.randrange(4)
    if kind == 0:
        tip = rng.randint(1, 40) / 4
        text = f"{friend} and {other} ate {where}. What did they pay for the bill in the picture with a tip of {tip}?"
        return {"query": text, "tools": ["visualizer"], "domain": "food"}
    if kind == 1:
        persons = rng.randint(2, 9)
        text = f"{friend} kept this receipt {where}. {persons} of us share it: what does each one owe {other}?"
        return {"query": text, "tools": ["visualizer"], "domain": "finance"}
    if kind == 2:
        price = rng.randint(4, 60)
        text = f"Everybody in the photo by {friend} needs a ticket {where}, at {price} each. What do I pay {other}?"
        return {"query": text, "tools": ["facedetection"], "domain": "travel"}
    text = f"{friend} drew this game board for {other} {where}. "
    text += f"How many points are its shapes worth at {rng.randint(2, 30)} each?"
    return {"query": text, "tools": ["objectlocation"], "domain": "entertainment"}


# Plans


def _plan(asked: str, kinds: tuple[str, ...]) -> dict[str, Any]:
    query = re.search(r"^Request: (.*)$", asked, re.M)[1]
    rng = random.Random(f"plan {query}")
    wrong = share(query, "plan")
    if wrong < 0.02:
        return {"from_web": [], "files": []}
    picture = _picture_for(query, rng)
    if picture:
        kind = rng.choice(("png", "jpg", "png")) if wrong > 0.04 else "psd"
        return {"from_web": [], "files": [{"name": f"{picture[0]}.{kind}", "kind": kind, "content": picture[1]}]}
    if "For my talk" in query:
        what, first, second = re.search(r"is the (\w+) of (\w+) than that of (\w+)\?", query).groups()
        return {"from_web": [f"{what} of {first}", f"{what} of {second}"], "files": []}
    topic = next(topic for topic in _TOPICS if topic[1] in query)
    names = ("this_year", "last_year") if "the other file" in query else (topic[2].replace(" ", "_"),)
    chosen = zip(names, rng.sample(kinds, len(names)), strict=True)
    return {"from_web": [], "files": [_table(name, kind, topic, rng) for name, kind in chosen]}


def _picture_for(query: str, rng: random.Random) -> tuple[str, str] | None:
    if "bill in the picture" in query or "this receipt" in query:
        dishes = rng.sample(["Soup 4.50", "Pasta 12.40", "Pizza 9.80", "Salad 7.25", "Tea 2.10", "Steak 21.60"], 2)
        return "receipt", f"A printed receipt of a cafe: {', '.join(dishes)}, and the total."
    if "in the photo by" in query:
        return "group", f"A photo of a group of {rng.randint(2, 4)} people looking at the camera."
    if "game board" in query:
        return "board", f"Coloured shapes on a light ground: {rng.randint(2, 3)} red circles and a blue square."
    return None


def _table(name: str, kind: str, topic: tuple[str, ...], rng: random.Random) -> dict[str, str]:
    names, periods = rng.sample(topic[5].split(), 3), rng.sample(_PERIODS, 3)
    # What the query asks about must be in the table, so it has all names.
    names = topic[5].split()
    rows = [f"{entry} | {period} | {rng.randint(12, 480)}" for entry in names for period in periods]
    content = f"Heading: {topic[2].title()}. Columns: Name, Month, {topic[3].title()}. Rows: {'; '.join(rows)}"
    return {"name": f"{name}.{kind}", "kind": kind, "content": content}


# Programs


def _program(asked: str) -> dict[str, str]:
    name = re.search(r"Write a program that makes the file `([^`]+)`", asked)[1]
    content = re.search(r"^Content: (.*)$", asked, re.M)[1]
    again = "Your last program was:" in asked
    luck = share(content, "program")
    if luck < 0.02:
        return {"code": HOSTILE_PROGRAMS[int(luck * 1e6) % len(HOSTILE_PROGRAMS)].format(name=name)}
    if luck < 0.05 or (luck < 0.17 and not again):
        return {"code": WRONG_PROGRAMS[int(luck * 1e6) % len(WRONG_PROGRAMS)].format(name=name)}
    code = file_program(name, content)
    return {"code": f"```py\n{code}\n```" if luck > 0.9 else code}


# Verdicts


def _verdict(asked: str, kind: str, names: str, wrong: float, no: str, yes: str) -> dict[str, Any]:
    """A verdict that names one thing that is not the case in a share of the replies."""
    checks = dict.fromkeys(names.split(), True)
    luck = share(re.search(r"^Request: (.*)$", asked, re.M)[1], kind)
    if luck < wrong:
        failed = [*checks][int(luck * 1e6) % len(checks)]
        return {**checks, failed: False, "reason": f"{no}: {failed.replace('_', ' ')} is not the case."}
    return {**checks, "reason": yes}


_verdict_on_files = partial(
    _verdict,
    kind="files",
    names="enough_information files_match needs_tools single_answer",
    wrong=0.08,
    no="The request does not hold up",
    yes="Everything that the request speaks of is in the files or can be looked up.",
)
_verdict_on_trajectory = partial(
    _verdict,
    kind="trajectory",
    names="tools_sensible arguments_right observations_used answer_relevant answer_supported",
    wrong=0.1,
    no="Step 1 is not what the request needs",
    yes="The steps read what they need, and the answer follows from it.",
)


# Turns of the agent


def _turn(turns: list[tuple[str, str]]) -> str:
    users = [text for role, text in turns if role == "user"]
    query, _, listed = users[0].partition("\nFiles: ")
    files = [path.strip() for path in listed.split(",") if path.strip()]
    observations = [text for text in users[1:] if text.startswith("Observation:")]
    luck = share(query, "solve")
    if luck < 0.03:
        return turn(_look(query, files), "I look again, to be sure.")
    if 0.03 <= luck < 0.05 and not observations:
        return turn(f'print("{_PRIVATE}/" + "answers.txt")', "The system may know more.")
    if 0.05 <= luck < 0.13 and not observations:
        return turn(f"print(contents)\n{_look(query, files)}", "I read it into a variable first.")
    if 0.13 <= luck < 0.15 and not observations:
        return "Thought: I think that I know this already.\nThe answer is probably 42."
    good = [text for text in observations if "Error:" not in text]
    if not good or good[-1].startswith("Observation: /home/"):
        return turn(_look(query, files), "I look at what the answer is in.")
    return turn(f"final_answer({_answer(query, good[-1])})", "This holds what is needed, so I compute the answer.")


def _look(query: str, files: list[str]) -> str:
    if not files:
        what, first, second = re.search(r"is the (\w+) of (\w+) than that of (\w+)\?", query).groups()
        lines = [f'print(ask_search_agent("{what} of {country}"))' for country in (first, second)]
        return "\n".join(lines)
    if "photo" in query:
        return f'print(len(facedetection("{files[0]}")), "faces")'
    if "game board" in query:
        return f'print(len(objectlocation("shape", "{files[0]}")), "shapes")'
    if files[0].endswith((".png", ".jpg")):
        return f'print(visualizer("{files[0]}", "total"))'
    return "\n".join(f'print(inspect_file_as_text("{path}"))' for path in files)


def _answer(query: str, observation: str) -> str:
    """The answer as an expression over numbers that were observed."""
    numbers = re.findall(r"\d[\d,]*(?:\.\d+)?", observation)
    observed = [number.replace(",", "") for number in numbers] or ["0"]
    asked = re.findall(r"\d+(?:\.\d+)?", query)
    if "For my talk" in query:
        large = [number for number in observed if float(number) > 3000] or observed
        return f"abs({large[0]} - {large[-1]})"
    if "with a tip" in query:
        return f"round({observed[-1]} + {asked[-1]}, 2)"
    if "of us share" in query:
        return f"round({observed[-1]} / {asked[-1]}, 2)"
    if "at" in query and "each" in query:
        return f"{observed[0]} * {asked[-1]}"
    name, *others = [word for topic in _TOPICS for word in topic[5].split() if re.search(rf"\b{word}\b", query)]
    values = _values_of(name, observation)
    if "average" in query:
        return f"round(({' + '.join(values)}) / {len(values)}, 2)"
    if "are left" in query:
        return f"{asked[-1]} - ({' + '.join(values)})"
    if "differ" in query and others:
        return f"abs(({' + '.join(values)}) - ({' + '.join(_values_of(others[0], observation))}))"
    return " + ".join(values)


def _values_of(name: str, observation: str) -> list[str]:
    """The last number of each row that is about a name."""
    found = [re.findall(r"\d+(?:\.\d+)?", line) for line in observation.split("\n") if name in line]
    return [numbers[-1] for numbers in found if numbers] or ["0"]
