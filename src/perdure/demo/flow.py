"""The licence audit as a durable workflow: ordinary functions, and nothing but."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Literal
from zlib import crc32

from perdure import checkpoint, current, interrupt, step, workflow
from perdure.demo import audit, ledger
from perdure.demo.audit import Finding, Verdict

Ruling = Literal["accept", "reject", "open"]

# Reading a few files takes a millisecond or two. The pause makes the steps long enough to be killed in.
PAUSE = 0.08
AT_ONCE = 8


def pause(name: str) -> float:
    """From half of `PAUSE` to one and a half, so that the steps do not march in step."""
    return PAUSE * (0.5 + crc32(name.encode()) % 100 / 100)


@step
async def inspect_distribution(name: str) -> Finding:
    """Read one distribution's metadata, classifiers and licence files."""
    with ledger.visit(current(), name):
        finding = await asyncio.to_thread(audit.inspect, name)
        await asyncio.sleep(pause(name))
        return finding


@checkpoint
async def apply_rulings(findings: list[Finding], rulings: dict[str, Ruling]) -> list[Finding]:
    """Write what the person said to the findings it is about. A point to which one can return."""
    return [replace(f, ruling=rulings.get(f.name, "open")) if is_unclear(f) else f for f in findings]


@step
async def write_report(findings: list[Finding]) -> str:
    """The audit as Markdown: what needs care first."""
    return report(findings)


@workflow
async def audit_licences(names: list[str]) -> str:
    """Inspect the distributions in parallel, ask a person about what is not clear, and report."""
    findings = await inspect_distribution.map(names, limit=AT_ONCE)
    unclear = [f for f in findings if is_unclear(f)]
    rulings: dict[str, Ruling] = {}
    if unclear:
        rulings = await interrupt(
            f"{len(unclear)} of {len(findings)} distributions need a person's word: accept, reject, or leave open?",
            schema=dict[str, Ruling],
            details=[{"name": f.name, "verdict": f.verdict, "reason": f.reason} for f in unclear],
        )
    return await write_report(await apply_rulings(findings, rulings))


def is_unclear(finding: Finding) -> bool:
    return finding.verdict is not Verdict.PERMISSIVE


def report(findings: list[Finding]) -> str:
    counts = ", ".join(f"{sum(f.verdict is verdict for f in findings)} {verdict}" for verdict in Verdict)
    lines = ["# Licence audit", "", f"{len(findings)} distributions: {counts}.", ""]
    unclear = [f for f in findings if is_unclear(f)]
    if unclear:
        lines += ["| distribution | licence | verdict | why | a person said |", "|---|---|---|---|---|"]
        lines += [f"| {f.name} {f.version} | {f.licence} | {f.verdict} | {f.reason} | {f.ruling} |" for f in unclear]
        lines.append("")
    lines += ["| distribution | licence | verdict | why | licence files (SHA-256) |", "|---|---|---|---|---|"]
    lines += [
        f"| {f.name} {f.version} | {f.licence} | {f.verdict} | {f.reason} | {len(f.files)} ({f.digest}) |"
        for f in findings
        if not is_unclear(f)
    ]
    return "\n".join(lines) + "\n"
