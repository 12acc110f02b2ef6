from medseg.doctor.finding import Finding, collapsed, wrong


def finding(case: str, severity: str = "error", fix: str = "data.x=1") -> Finding:
    return Finding("grid", severity, (case,), f"{case}: off", fix)  # type: ignore[arg-type]


def test_findings_of_most_cases_become_one() -> None:
    (one,) = collapsed([finding(f"c{i}") for i in range(6)], 10)
    assert one.cases == ("c0", "c1", "c2", "c3", "c4", "c5")
    assert one.message == "6 of 10 cases, the first: c0: off"


def test_findings_of_few_cases_stay() -> None:
    assert len(collapsed([finding(f"c{i}") for i in range(6)], 100)) == 6
    assert len(collapsed([finding(f"c{i}", "note") for i in range(6)], 100)) == 1


def test_errors_come_first() -> None:
    mixed = [finding("a", "note"), finding("b", "warning"), finding("c")]
    assert [f.severity for f in collapsed(mixed, 3)] == ["error", "warning", "note"]


def test_notes_are_nothing_wrong() -> None:
    assert not wrong([finding("a", "note")])
    assert wrong([finding("a", "note"), finding("b", "warning")])
