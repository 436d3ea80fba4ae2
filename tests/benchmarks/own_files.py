"""24 questions about files that other libraries make, as a user brings them: 12 in the wording of the quickstart's
families and 12 free ones, answered by an agent of `t3 quickstart`; and the examples that come with the package.

    python tests/benchmarks/own_files.py --agent runs/seed1/train/agent
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import zipfile
from pathlib import Path


sys.path.insert(0, str(Path(__file__).parents[2]))

import matplotlib.pyplot as plt
import pandas

from t3_agents.agent.agent import T3Agent
from t3_agents.answers import answers_match
from t3_agents.examples import EXAMPLES, example_file
from t3_agents.task import File, Task


def slip(path: Path, title: str, rows: list[tuple[str, str]]) -> None:
    """A printed slip, drawn by matplotlib."""
    figure = plt.figure(figsize=(4, 0.6 * len(rows) + 1.2), dpi=100)
    figure.text(0.5, 0.9, title, ha="center", size=15, family="serif")
    for number, (label, value) in enumerate(rows):
        height = 0.78 - 0.75 * number / len(rows)
        figure.text(0.1, height, label, size=13, family="serif")
        figure.text(0.9, height, value, size=13, family="serif", ha="right")
    figure.savefig(path)
    plt.close(figure)


def bars(path: Path, values: dict[str, int]) -> None:
    """A bar chart in a style of matplotlib, with the value behind each bar."""
    with plt.style.context("ggplot"):
        figure, axes = plt.subplots(figsize=(6, 4), dpi=100)
        axes.bar_label(axes.barh(list(values), list(values.values())), padding=4)
        axes.set_title("Rainfall in mm")
        figure.savefig(path)
        plt.close(figure)


def word(path: Path, lines: list[str]) -> None:
    """A Word file written by hand, with the parts that the format asks for and no others."""
    body = "".join(f"<w:p><w:r><w:t>{line}</w:t></w:r></w:p>" for line in lines)
    name = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    kinds = "http://schemas.openxmlformats.org/package/2006/content-types"
    links = "http://schemas.openxmlformats.org/package/2006/relationships"
    main = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
    with zipfile.ZipFile(path, "w") as archive:
        types = (
            f'<Types xmlns="{kinds}"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.'
        )
        types += f'relationships+xml"/><Override PartName="/word/document.xml" ContentType="{main}"/></Types>'
        archive.writestr("[Content_Types].xml", types)
        target = f'<Relationship Id="r1" Type="{office}" Target="word/document.xml"/>'
        archive.writestr("_rels/.rels", f'<Relationships xmlns="{links}">{target}</Relationships>')
        document = f'<w:document xmlns:w="{name}"><w:body>{body}</w:body></w:document>'
        archive.writestr("word/document.xml", document)


def pdf(path: Path, lines: list[str]) -> None:
    """A PDF of matplotlib's own writer, with text as text."""
    with plt.rc_context({"pdf.fonttype": 42}):
        figure = plt.figure(figsize=(6, 4))
        for number, line in enumerate(lines):
            figure.text(0.1, 0.9 - 0.12 * number, line)
        figure.savefig(path)
        plt.close(figure)


def make_files(folder: Path) -> None:
    """What the questions are about."""
    slip(folder / "IMG_2031.png", "CORNER STORE", [("Milk", "1.20"), ("Cheese", "24.93"), ("TOTAL", "26.13")])
    slip(folder / "photo.jpg", "Paracetamol", [("Dose", "250 mg"), ("Tablets", "24"), ("Lot", "7731")])
    slip(folder / "flyer.png", "JAZZ NIGHT", [("Singer", "Mona Reyes"), ("Date", "3 May 2026"), ("Price", "18.50")])
    slip(folder / "ticket.png", "AIR 7", [("Gate", "42"), ("Seat", "17"), ("Zone", "31")])
    bars(folder / "weather.png", {"Oslo": 120, "Rome": 48, "Cairo": 9})
    players = {"player": ["Ada", "Omar", "Iris"], "game 1": [10, 8, 21], "game 2": [7, 15, 4], "game 3": [12, 9, 11]}
    pandas.DataFrame(players).to_csv(folder / "league.csv", index=False)
    sales = {"dish": ["Soup", "Pizza", "Salad"], "price": [6, 11, 8], "sold": [40, 25, 31]}
    pandas.DataFrame(sales).to_excel(folder / "kitchen.xlsx", index=False, engine="xlsxwriter")
    device = {"battery": 4100, "owner": "Lena Kovacs", "port": 8081, "speed": 310}
    (folder / "sensor.json").write_text(json.dumps(device, indent=4))
    pdf(
        folder / "letter.pdf",
        ["Invoice", "Due date: 9 June 2026", "Customer: Tina Rossi", "Tax: 12.40", "Total: 77.40"],
    )
    word(
        folder / "visit.docx", ["Dear patient,", "The doctor is Eva Brandt.", "The room is 214.", "The hour is 9:15."]
    )
    word(folder / "flat.docx", ["Contract", "The rent is 640 euros a month.", "The parking is 55 euros a month."])


QUESTIONS = {
    "families": [
        ("How much was paid in total?", "IMG_2031.png", "26.13"),
        ("What is the total of this bill with a tip of 3.50?", "IMG_2031.png", "29.63"),
        ("How many mg are 12 doses?", "photo.jpg", "3000"),
        ("What is the lot on this label?", "photo.jpg", "7731"),
        ("What is the date on this poster?", "flyer.png", "3 May 2026"),
        ("How many mm more rain fell in Oslo than in Rome?", "weather.png", "72"),
        ("How many points did Omar score in all?", "league.csv", "32"),
        ("How much money did we make with pizza?", "kitchen.xlsx", "275"),
        ("What is the battery of this device?", "sensor.json", "4100"),
        ("What is the due date of this invoice?", "letter.pdf", "9 June 2026"),
        ("What is the doctor in this letter?", "visit.docx", "Eva Brandt"),
        ("What is the gate on this boarding pass?", "ticket.png", "42"),
    ],
    "free": [
        ("what did i spend at the corner store?", "IMG_2031.png", "26.13"),
        ("Price of the cheese?", "IMG_2031.png", "24.93"),
        ("How strong is one tablet?", "photo.jpg", "250 mg"),
        ("Who sings at the jazz night?", "flyer.png", "Mona Reyes"),
        ("How expensive is it to get in?", "flyer.png", "18.50"),
        ("How much rain fell in Cairo?", "weather.png", "9"),
        ("Sum up the points of Iris please", "league.csv", "36"),
        ("What's our revenue from soup?", "kitchen.xlsx", "240"),
        ("Which port does the sensor use?", "sensor.json", "8081"),
        ("How much tax is on the invoice?", "letter.pdf", "12.40"),
        ("In which room is my appointment?", "visit.docx", "214"),
        ("What do I pay for parking each month?", "flat.docx", "55"),
    ],
}
ANSWERS = {"receipt.png": "16.75", "invoice.pdf": "14 March 2026", "scores.csv": "51"}
NO_ANSWER = re.compile(r"^(?:files|outputs)/\S+$|^[\w.-]+\.(?:png|jpg|pdf|csv|xlsx|docx|json)$|^\d[\d.]* *[-+*/] *\d")
"""A path, a file name, or an expression that was not evaluated."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agent", default="runs/quickstart/train/agent")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "own_files.json")
    options = parser.parse_args()
    if not Path(options.agent).is_dir():
        print(f"There is no agent in {options.agent}: run `t3 quickstart` first.")
        return
    agent = T3Agent.from_pretrained(options.agent, max_steps=4, max_consecutive_errors=2)
    agent.model.generation["max_new_tokens"] = 96
    results: dict[str, list] = {}
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder))
        questions = {kind: [(q, Path(folder, name), a) for q, name, a in rows] for kind, rows in QUESTIONS.items()}
        questions["examples"] = [(q, example_file(name), ANSWERS[name]) for name, q in EXAMPLES.items()]
        for kind, rows in questions.items():
            for question, path, expected in rows:
                answer = agent.run_task(Task.create(question, [File.from_path(path)])).answer or ""
                right = answers_match(answer, expected)
                results.setdefault(kind, []).append(
                    {"question": question, "expected": expected, "answer": answer, "right": right}
                )
                print("right" if right else "WRONG", kind, question, "->", answer, flush=True)
    counts = {kind: f"{sum(row['right'] for row in rows)} of {len(rows)}" for kind, rows in results.items()}
    broken = [row["answer"] for rows in results.values() for row in rows if NO_ANSWER.search(row["answer"])]
    print(counts, "no answers:", broken)
    record = {"right": counts, "no_answers": broken, "answers": results}
    options.output.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
