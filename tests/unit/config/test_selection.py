"""`-k`: words in job ids."""

from __future__ import annotations

import pytest

from flows.config.selection import parse

JOBS = ("bert--default", "bert_full--default", "resnet--batch", "resnet--image", "vit--seq128-core")


@pytest.mark.parametrize(("expression", "expected"), [
    ("", JOBS),
    ("bert", JOBS[:2]),
    ("BERT and not full", JOBS[:1]),
    ("not bert and not resnet", JOBS[4:]),
    ("bert or vit", (*JOBS[:2], JOBS[4])),
    ("bert and full or image", (JOBS[1], JOBS[3])),
    ("resnet and (image or seq)", (JOBS[3],)),
    ("not (bert or resnet)", (JOBS[4],)),
    ("not not vit", (JOBS[4],)),
    ("resnet--batch", (JOBS[2],)),
    (f"={JOBS[2]} or =bert", (JOBS[2],)),
])
def test_selects_the_jobs_that_it_reports(expression: str, expected: tuple[str, ...]) -> None:
    assert tuple(filter(parse(expression), JOBS)) == expected


@pytest.mark.parametrize(("expression", "said"), [
    ("bert vit", "unexpected 'vit'"),
    ("bert and", "before the end"),
    ("or bert", "before 'or'"),
    ("(bert", "not closed"),
    ("bert)", r"unexpected '\)'"),
    ("()", r"before '\)'"),
    ("not", "before the end"),
])
def test_unreadable_input_is_reported(expression: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(expression)
