"""The table of codes, and the one exception that carries them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tasks.errors import KINDS, StenoboxError

ROOT = Path(__file__).parent.parent
TYPES = {
    "authentication_error",
    "permission_error",
    "invalid_request_error",
    "rate_limit_error",
    "server_error",
    "job_error",
}
WAITING_HELPS = {429, 502, 503, 504, 507}


@pytest.mark.parametrize("code", list(KINDS))
def test_every_code_is_a_plain_word_with_an_error_status_and_a_known_type(code: str) -> None:
    kind = KINDS[code]
    assert code.replace("_", "").isalpha()
    assert code == code.lower()
    assert 400 <= kind.status <= 599
    assert kind.type in TYPES


@pytest.mark.parametrize("code", list(KINDS))
def test_only_what_waiting_can_mend_is_retryable(code: str) -> None:
    kind = KINDS[code]
    if kind.type == "invalid_request_error":
        assert kind.status < 500
        assert kind.retryable == (code == "idempotency_in_progress"), "which ends when the first one has arrived"
    if kind.status in WAITING_HELPS or kind.status == 500:
        assert kind.retryable
    assert (kind.type == "rate_limit_error") == (kind.status == 429)


def test_only_a_fault_of_our_own_code_is_500() -> None:
    """How a job ends is not: where it is a synchronous face's answer, programs would take the box for broken."""
    assert [code for code, kind in KINDS.items() if kind.status == 500] == ["internal"]


def test_an_error_carries_its_code_kind_and_sentence() -> None:
    error = StenoboxError("queue_full", "The box is full.", retry_after=7)
    assert str(error) == error.message == "The box is full."
    assert error.code == "queue_full"
    assert error.kind is KINDS["queue_full"]
    assert (error.param, error.retry_after) == (None, 7)
    assert StenoboxError("empty_file", "Empty.", param="file").param == "file"


def test_a_code_that_nobody_declared_is_a_mistake_at_once() -> None:
    with pytest.raises(KeyError):
        StenoboxError("nonsense", "No.")


def raised_codes() -> list[tuple[str, str]]:
    """(place, code) of every StenoboxError("code", …) in the product."""
    found = []
    for path in [*ROOT.glob("tasks/**/*.py"), *ROOT.glob("webapp/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "StenoboxError":
                code = node.args[0] if node.args else None
                if isinstance(code, ast.Constant):
                    found.append((f"{path.relative_to(ROOT)}:{node.lineno}", code.value))
    return found


def test_every_code_that_the_product_raises_is_in_the_table() -> None:
    codes = raised_codes()
    assert len(codes) > 10
    assert [(place, code) for place, code in codes if code not in KINDS] == []
