from benchmarks.against import compared, markdown, rows


def test_rows_are_named_by_all_that_tells_them_apart():
    row = {"work": "one step, B=1", "config": "tiny", "variant": "sb3", "ms": 0.5}
    result = {"sections": {"overhead": {"cpu": {"rows": [row]}, "cuda": {"skipped": "no GPU"}}}}
    assert rows(result) == {"overhead | one step, B=1 | tiny | sb3": 0.5}


def test_a_ratio_is_that_of_the_same_round():
    ours, theirs = [{"a": 2.0}, {"a": 6.0}, {"a": 3.0}], [{"a": 1.0}, {"a": 6.0}, {"a": 2.0}]
    (cell,) = compared(ours, theirs)
    assert (cell["ms"], cell["ms_before"], cell["ratio"], cell["range"]) == (3.0, 2.0, 1.5, [1.0, 2.0])
    assert "| a | 3 | 2 | 1.50 | 1.00 to 2.00 |" in markdown([cell])


def test_a_row_that_only_one_side_has_is_left_out():
    assert compared([{"a": 1.0, "new": 1.0}], [{"a": 1.0, "old": 1.0}])[0]["row"] == "a"
    assert len(compared([{"a": 1.0, "new": 1.0}], [{"a": 1.0, "old": 1.0}])) == 1
