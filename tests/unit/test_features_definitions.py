"""What a change of the definitions would do, and which are refused."""

from datetime import timedelta
from types import SimpleNamespace

import pytest

from services.common.nodes.features import Limits
from services.features.backends.feast_apply import Refused, describe
from services.features.definitions import plan, read_views, write_views
from services.features.views import VIEWS, View

OLD = View("facts", {"present": bool, "answer": str, "count": int}, ttl=5)

# Feast is loaded for its types.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_a_plan_names_what_comes_goes_and_changes():
    new = View("facts", {"present": bool, "answer": str, "score": float}, ttl=7)
    planned = plan({"facts": OLD, "gone": OLD}, {"facts": new, "users": OLD})
    assert planned.added == ("users", "facts.score")
    assert planned.removed == ("gone", "facts.count")
    assert planned.changed == ("facts: ttl from 5 to 7 µs",)
    assert planned.refused == ()
    assert planned.lines() == ["+ users", "+ facts.score", "- gone", "- facts.count", "~ facts: ttl from 5 to 7 µs"]


def test_another_type_is_refused_for_it_breaks_history():
    planned = plan({"facts": OLD}, {"facts": View("facts", {**OLD.fields, "count": str}, ttl=5)})
    assert len(planned.refused) == 1 and "facts.count is int on record" in planned.refused[0]
    assert planned.lines()[0].startswith("refused: facts.count")


def test_a_change_of_limits_is_planned_and_makes_no_other_view():
    new = View("facts", OLD.fields, ttl=5, limits={"count": Limits(least=0)})
    assert plan({"facts": OLD}, {"facts": new}).lines() == ["~ facts: limits of its fields"]
    assert new == OLD


def test_without_a_change_the_plan_says_so():
    assert plan(VIEWS, VIEWS).lines() == ["nothing changes"]


def test_views_come_back_as_they_were_written(tmp_path):
    assert read_views(tmp_path) == {}
    write_views(tmp_path, {**VIEWS, "facts": OLD})
    assert read_views(tmp_path) == {**VIEWS, "facts": OLD}
    limited = View("facts", OLD.fields, limits={"answer": Limits(True, most=9.5), "count": Limits(least=0)})
    write_views(tmp_path, {"facts": limited})
    assert read_views(tmp_path)["facts"].limits == limited.limits


def definitions(**changed):
    from feast.types import Float64, String

    source = SimpleNamespace(
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
        path="offline/users",
        file_options=SimpleNamespace(uri=""),
    )
    fields = [
        SimpleNamespace(name="plan", dtype=String, tags={"required": "true"}),
        SimpleNamespace(name="quota", dtype=Float64, tags={"least": "0", "unit": "1/d"}),
    ]
    view = SimpleNamespace(
        name="users", entities=["user"], ttl=timedelta(hours=1), batch_source=source, features=fields
    )
    for name, value in changed.items():
        owner = source if hasattr(source, name) else view
        setattr(owner, name, value)
    return SimpleNamespace(
        entities=[SimpleNamespace(name="user", join_key="entity_key"), SimpleNamespace(name="other", join_key="id")],
        feature_views=[view],
    )


@pytest.mark.slow
def test_a_new_view_needs_no_code(tmp_path):
    repository = definitions()
    assert describe(repository, tmp_path) == {"users": View("users", {"plan": str, "quota": float}, 3_600_000_000)}
    limits = describe(repository, tmp_path)["users"].limits
    assert limits == {"plan": Limits(required=True), "quota": Limits(least=0.0)}
    source = repository.feature_views[0].batch_source
    assert source.file_options.uri == f"{tmp_path.resolve()}/offline/users/*.parquet"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"entities": ["other"]}, "join key"),
        ({"timestamp_field": "when"}, "timestamps"),
        ({"created_timestamp_column": ""}, "timestamps"),
        ({"path": "offline/facts"}, "must lie in"),
        ({"features": [SimpleNamespace(name="n", dtype="Map", tags={})]}, "Bool, Int64"),
    ],
)
def test_what_the_node_could_not_serve_is_refused(tmp_path, changed, why):
    with pytest.raises(Refused, match=why):
        describe(definitions(**changed), tmp_path)


@pytest.mark.slow
def test_limits_that_are_no_numbers_are_refused(tmp_path):
    repository = definitions()
    repository.feature_views[0].features[1].tags = {"most": "many"}
    with pytest.raises(Refused, match="must be numbers"):
        describe(repository, tmp_path)
