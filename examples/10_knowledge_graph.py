"""A graph of what texts say, and answers out of it. In place of a knowledge app's own clients, their factory and its JSON parser.

Nodes and relations are read out of text as one typed answer, which is checked and asked for again where it does not hold together. They are found by
likeness of meaning and by what they are related to, and a model answers from those facts alone. The chat model gives no embeddings here, so that
the embedding model takes its place, and says so.

Runs offline. With LITELLM_URL your proxy is asked, with LOOOPY_MODEL and LOOOPY_EMBEDDING_MODEL for the models.
"""

from __future__ import annotations

import asyncio
import json
import os
from array import array
from functools import partial
from heapq import nlargest
from operator import mul
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from looopy import llm
from looopy.testing import Answer, ScriptedServer, embeds, fails, says

MODEL = os.environ.get("LOOOPY_MODEL", "anthropic/claude-haiku-4-5")
EMBEDDING_MODEL = os.environ.get("LOOOPY_EMBEDDING_MODEL", "text-embedding-3-small")
embed = partial(llm.embed, model=MODEL, fallback_model=EMBEDDING_MODEL)


class Node(BaseModel):
    """Somebody or something that a text speaks of."""

    model_config = ConfigDict(frozen=True)
    name: str
    about: str

    def __str__(self) -> str:
        return f"{self.name}: {self.about}"


class Relation(BaseModel):
    """What one node has to do with another, as a sentence: source, verb, target."""

    model_config = ConfigDict(frozen=True)
    source: str
    verb: str
    target: str

    def __str__(self) -> str:
        return f"{self.source} {self.verb} {self.target}"


class Knowledge(BaseModel):
    """What is in a text."""

    nodes: list[Node]
    relations: list[Relation]

    @model_validator(mode="after")
    def ends_are_nodes(self) -> Knowledge:
        ends = {end for relation in self.relations for end in (relation.source, relation.target)}
        if unknown := sorted(ends - {node.name for node in self.nodes}):
            raise ValueError(f"there are relations to {', '.join(unknown)}, and no such nodes")
        return self


@llm.llm_function(model=MODEL)
async def read(text: str) -> Knowledge:
    """Say what is in this text: {{ text }}"""
    raise NotImplementedError  # the model is the body


@llm.llm_function(model=MODEL)
async def conclude(facts: str, question: str) -> str:
    """Answer the question from the facts alone.

    {{ facts }}

    {{ question }}
    """
    raise NotImplementedError


class Graph:
    """Nodes with a vector each, and their relations."""

    def __init__(self) -> None:
        self.vectors: dict[Node, array[float]] = {}
        self.relations: set[Relation] = set()

    async def learn(self, text: str) -> None:
        """Add what a text says."""
        found = await read(text)
        embeddings = await embed([str(node) for node in found.nodes])
        self.vectors.update(zip(found.nodes, embeddings.vectors, strict=True))
        self.relations.update(found.relations)
        print(f"{len(found.nodes)} nodes, {len(found.relations)} relations, {embeddings}")

    async def near(self, question: str, count: int = 2) -> list[Node | Relation]:
        """What may answer a question: the nodes that are most like it, and what they have to do with others."""
        asked = (await embed([question])).vectors[0]
        nodes = nlargest(count, self.vectors, key=lambda node: sum(map(mul, asked, self.vectors[node])))
        names = {node.name for node in nodes}
        related = (each for each in self.relations if {each.source, each.target} & names)
        return [*nodes, *sorted(related, key=str)]

    async def answer(self, question: str) -> str:
        """An answer out of the graph."""
        facts = "\n".join(map(str, await self.near(question)))
        print(f"\n{question}\n{facts}")
        return await conclude(facts, question)


async def main() -> None:
    graph = Graph()
    for text in TEXTS:
        await graph.learn(text)
    print("→", await graph.answer("Who owns the mill where the bees live?"))


# ------------------------------------------------------------------------------------------ two texts, and what models make of them

TEXTS = (
    "Mara keeps bees. They live behind the mill, and fly to the limes.",
    "Jonas owns the mill and grinds rye there. His sister Ulla sails.",
)


def knows(nodes: str, relations: str) -> Answer:
    """The JSON of "Mara: a bee-keeper; …" and "Mara/keeps/bees; …"."""
    found = {
        "nodes": [dict(zip(Node.model_fields, node.split(": "), strict=True)) for node in nodes.split("; ")],
        "relations": [
            dict(zip(Relation.model_fields, each.split("/"), strict=True)) for each in relations.split("; ")
        ],
    }
    return says(json.dumps(found))


def play(body: dict[str, Any]) -> Answer:
    if "input" in body:
        chat = body["model"] == MODEL
        return (
            fails(400, "litellm.BadRequestError: Unmapped LLM provider for this endpoint.")
            if chat
            else embeds(body)
        )
    newest = body["messages"][-1]["content"]
    flight = "Mara/keeps/bees; bees/live behind/mill; bees/fly to/limes"
    if TEXTS[0] in newest:
        return knows("Mara: a bee-keeper; bees: live behind the mill; mill: a building", flight)
    if "no such nodes" in newest:
        return knows("Mara: a bee-keeper; bees: live behind the mill; mill: a building; limes: trees", flight)
    if TEXTS[1] in newest:
        return knows(
            "Jonas: a miller; mill: where rye is ground; Ulla: a sailor",
            "Jonas/owns/mill; Ulla/is the sister of/Jonas",
        )
    return says("Jonas." if "Jonas owns mill" in newest else "The facts do not say.")


if __name__ == "__main__":
    if "LITELLM_URL" in os.environ:
        asyncio.run(main())
    else:
        with ScriptedServer(otherwise=play).running() as os.environ["LITELLM_URL"]:
            asyncio.run(main())
