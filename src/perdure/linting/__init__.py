"""What in workflow code would not replay, found by reading it: nothing is imported and nothing runs.

finding.py      a finding, and the rules          silence.py    `# perdure: ignore`
scopes.py       what a name means where it stands
durable.py      which functions are workflow code, which calls are durable
forbidden.py    the names that belong into steps, by rule
values.py       what a value is, where that can be read off: a set, a path, a logger
source.py       from a file's text to its findings
checks.py       one function, read through        order.py, endings.py   the rules that look at whole statements

Where a name may mean something else (a local, a parameter, a second definition), nothing is said: who is
told something false stops listening.
"""

from perdure.linting.finding import RULES, Finding, Rule, Severity
from perdure.linting.source import Report, lint, unreadable

__all__ = ["RULES", "Finding", "Report", "Rule", "Severity", "lint", "unreadable"]
