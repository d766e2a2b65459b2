"""Calculate with a tool, and watch every event. Runs offline; set LITELLM_URL (and LOOOPY_MODEL) for a real model."""

from __future__ import annotations

import ast
import operator
import os
from collections.abc import Callable

from looopy import AgentLoop, InMemoryArtifactStore, InMemoryStateStore, tool

SIGNS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda left, right: left / right,
}


@tool
def calculate(expression: str) -> float:
    """Work out an arithmetic expression.

    Args:
        expression: numbers, + - * / and parentheses, for example "15 * 23 + 47".
    """

    def value(node: ast.expr) -> float:
        match node:
            case ast.Constant(value=int() | float() as number):
                return number
            case ast.BinOp(left, sign, right) if type(sign) in SIGNS:
                return SIGNS[type(sign)](value(left), value(right))
            case _:
                raise ValueError(f"only numbers, + - * / and parentheses, not {ast.unparse(node)!r}")

    return value(ast.parse(expression, mode="eval").body)


model = os.environ.get("LOOOPY_MODEL", "gpt-4o-mini") if os.environ.get("LITELLM_URL") else "stand-in"
agent = AgentLoop(
    agent_id="my-agent",
    llm_provider=model,
    tools=[calculate],
    task_state_store=InMemoryStateStore(),
    artifact_store=InMemoryArtifactStore(),
)

if __name__ == "__main__":
    run = agent.execute("Calculate 15 * 23 + 47")
    run.subscribe(on_next=lambda event: print("Event:", event.kind), on_completed=lambda: print("Done!"))
    print(run.result(timeout=60).output)
