"""Tables of the study say what its records say."""

from __future__ import annotations

import study_tables
from study_records import Study


def test_unseen_patterns_are_held_against_having_seen_them(study: Study) -> None:
    line = next(r for r in study_tables.trust_table(study).splitlines() if r.startswith("| mfeat | mamol"))
    assert "-3.0 (1 seed)" in line
