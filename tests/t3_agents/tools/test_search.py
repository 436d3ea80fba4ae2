import os
import subprocess
import sys

import pytest

from t3_agents.errors import InputError
from t3_agents.tools.ask_search_agent import AskSearchAgent


@pytest.fixture(scope="module")
def tool():
    return AskSearchAgent()


@pytest.mark.parametrize(
    ("query", "title", "fact"),
    [
        ("capital of Norway", "Norway - Capital", "Oslo"),
        ("What is the population of Norway?", "Norway - Population:", "total: 5,"),
        ("Which country has Oslo as its capital?", "Norway - Capital", "Oslo"),
        ("What is the area of France in sq km?", "France - Area:", "643,801"),
        ("GDP per capita of Germany", "Germany - Real GDP per capita", "$"),
        ("highest point of Nepal", "Nepal - Elevation", "Everest"),
        ("languages spoken in Switzerland", "Switzerland - Languages", "German"),
        ("What currency is used in Japan?", "Japan - Exchange rates", "yen"),
        ("population of the US", "United States - Population:", "total"),
        ("Equatorial Guinea capital", "Equatorial Guinea - Capital", "Malabo"),
        ("Kenya", "Kenya - Background", "Kenya"),
        ("who is the prime minister of the United Kingdom", "United Kingdom - Executive branch", "Prime Minister"),
    ],
)
def test_facts(tool, query, title, fact):
    answer = tool(query)
    assert answer.startswith(title) and fact in answer and answer.endswith("[CIA World Factbook]")
    assert len(answer) < 400


@pytest.mark.parametrize("query", ["zebra quantum lasagna", "Who won the 2018 World Cup?", "price of an iPhone", "??"])
def test_nothing_relevant(tool, query):
    assert tool(query).startswith("Nothing about")


@pytest.mark.parametrize("query", ["", "  ", None, 3])
def test_bad_queries(tool, query):
    with pytest.raises(InputError, match="query"):
        tool(query)


def test_a_folder_of_texts(tmp_path):
    (tmp_path / "company.md").write_text(
        "# Acme handbook\n\nThe canteen opens at noon.\n\n## Travel\n\nTrips need form Z17."
    )
    (tmp_path / "zoo.txt").write_text("The zoo keeps four okapis. They eat leaves.\n")
    (tmp_path / "picture.png").write_bytes(b"no text")
    tool = AskSearchAgent(corpus=str(tmp_path))
    assert tool("When does the canteen open?") == "Acme handbook: The canteen opens at noon. [company.md]"
    assert "form Z17" in tool("which form for trips")
    assert "four okapis" in tool("how many okapis")
    assert "Oslo" in tool("capital of Norway")


def test_a_missing_folder():
    with pytest.raises(InputError, match="not a folder"):
        AskSearchAgent(corpus="no/such/folder")("canteen")


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    code = "from t3_agents.tools.ask_search_agent import AskSearchAgent; AskSearchAgent()('capital of Norway')"
    environment = {**os.environ, "T3_CACHE": str(tmp_path / "file")}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "PartError: The search index cannot be written" in run.stderr.splitlines()[-1]
