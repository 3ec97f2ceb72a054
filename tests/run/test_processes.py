from scripts.run.processes import partition


def test_partition_is_complete_disjoint_in_order_and_unpadded():
    cases = [{"case": str(i)} for i in range(7)]
    shares = [partition(cases, rank, 3) for rank in range(3)]
    assert [len(share) for share in shares] == [3, 2, 2]
    assert sorted(c["case"] for share in shares for c in share) == [c["case"] for c in cases]
    assert all([int(c["case"]) for c in s] == sorted(int(c["case"]) for c in s) for s in shares)
    assert [partition(cases[:2], rank, 3) for rank in range(3)] == [cases[:1], cases[1:2], []]
    assert partition(cases) == cases
