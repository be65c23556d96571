"""Sending commits: what PyIceberg does when it stages one."""

from pyiceberg.expressions import visitors
from pyiceberg.table.update import snapshot

from support.direct import Hands

DAYS = 3


async def test_no_two_manifests_are_judged_by_one_evaluator_when_a_file_is_replaced(fleet, monkeypatch):
    """PyIceberg's keeps the manifest that it looks at, and threads share it: a file to be replaced was not found."""
    judged = []

    class Watched(visitors._ManifestEvalVisitor):
        def eval(self, manifest):
            judged.append((self, manifest.manifest_path))  # which keeps them, so that no two have one address
            return super().eval(manifest)

    def evaluator(spec, schema, partition_filter, case_sensitive):
        return Watched(visitors.Schema(*spec.partition_type(schema).fields), partition_filter, case_sensitive).eval

    await fleet.make_days(days=DAYS, rows=1)
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        for exported in await hands.export_all(await hands.plan()):
            await hands.commit([exported])
        monkeypatch.setattr(snapshot, "manifest_evaluator", evaluator)
        await hands.run(force=True, from_="2024-03-20", to="2024-03-20")
    assert len({path for _, path in judged}) == DAYS
    assert len({id(one) for one, _ in judged}) == len(judged)
    assert fleet.table().scan().count() == DAYS
