"""The schema: what the migrations make is what the program means, from every released one, on both databases."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import JSON, BigInteger, Boolean, Integer, LargeBinary, MetaData, insert, inspect, select, text

from services.catalog.engine import Database, open_engine, planned
from services.catalog.migrations import schema
from services.catalog.tables import metadata
from services.common.errors import Conflict

ROOT = Path(__file__).parents[2]
FOLDER = Path(schema.__file__).parent
OPEN = "import sys; from services.catalog.engine import Database; Database(sys.argv[1]).close()"


@pytest.fixture
def engine(empty_url):
    opened = open_engine(empty_url)
    yield opened
    opened.dispose()


def upgraded(engine, revision="head"):
    with engine.connect().execution_options(writes=True) as tx, tx.begin():
        schema.upgrade(tx, revision)


def test_the_revisions_are_one_line_in_the_order_of_their_numbers():
    walked = [script.revision for script in ScriptDirectory(str(FOLDER)).walk_revisions()]
    assert walked[::-1] == schema.revisions() != []


def test_the_migrations_make_the_schema_that_the_program_means(engine):
    upgraded(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def a_value(column):
    if isinstance(column.type, JSON):
        return {}
    if isinstance(column.type, Boolean):
        return True
    if isinstance(column.type, LargeBinary):
        return b"x"
    return 7 if isinstance(column.type, Integer | BigInteger) else "x"


@pytest.mark.parametrize("released", schema.revisions())
def test_every_released_schema_is_upgraded_with_what_it_holds(engine, released):
    upgraded(engine, released)
    tables = MetaData()
    tables.reflect(engine)
    with engine.connect().execution_options(writes=True) as tx, tx.begin():
        assert schema.current(tx) == released
        for table in tables.sorted_tables:
            if table.name != "alembic_version":
                tx.execute(insert(table).values({column.name: a_value(column) for column in table.columns}))
    upgraded(engine)
    with engine.connect() as connection:
        assert schema.current(connection) == schema.revisions()[-1]
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        for table in metadata.sorted_tables:
            if table.name in tables.tables:
                assert connection.execute(select(table)).one()


def test_a_database_that_is_up_to_date_is_opened_without_alembic(empty_url):
    Database(empty_url).close()
    told = "; print(json.dumps(sorted(name for name in sys.modules if name.startswith('alembic'))))"
    code = f"import json; {OPEN}{told}"
    done = subprocess.run([sys.executable, "-c", code, empty_url], cwd=ROOT, capture_output=True, check=True)
    assert json.loads(done.stdout) == []


def test_several_processes_may_open_an_empty_database_at_once(empty_url):
    command = [sys.executable, "-c", OPEN, empty_url]
    running = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [process.communicate(timeout=60)[1] for process in running]
    assert [process.returncode for process in running] == [0] * 3, errors


def test_several_threads_may_open_an_empty_database_at_once(empty_url):
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(Database, [empty_url] * 8))
    for database in opened:
        with database.read() as tx:
            assert schema.current(tx) == schema.revisions()[-1]
        database.close()


def test_a_dry_run_says_the_sql_and_runs_none_of_it(engine, empty_url):
    said = planned(empty_url)
    assert "CREATE TABLE collections" in said and "INSERT INTO alembic_version" in said
    assert inspect(engine).get_table_names() == []
    upgraded(engine)
    assert planned(empty_url) == ""


def test_what_a_dry_run_says_makes_the_schema(engine):
    statements = [
        part
        for part in schema.planned(engine.dialect.name, None).split(";\n")
        if part.strip() not in ("", "BEGIN", "COMMIT")
    ]
    with engine.connect().execution_options(writes=True) as tx, tx.begin():
        for statement in statements:
            tx.execute(text(statement.replace(":", r"\:")))
    assert schema.is_newest(engine)


@pytest.mark.parametrize("version", ["9999", None])
def test_a_schema_that_is_not_understood_is_refused_and_left_alone(engine, empty_url, version):
    upgraded(engine)
    change = (
        "DROP TABLE alembic_version" if version is None else f"UPDATE alembic_version SET version_num = '{version}'"
    )
    with engine.connect().execution_options(writes=True) as tx, tx.begin():
        tx.execute(text(change))
    with pytest.raises(Conflict, match="before its first release" if version is None else "newer than this Almanac"):
        Database(empty_url)


def test_an_upgrade_that_fails_leaves_the_schema_as_it_was(engine):
    with engine.connect().execution_options(writes=True) as tx, tx.begin():
        tx.execute(text("CREATE TABLE answers (id INTEGER)"))
    with pytest.raises(Exception, match="answers"):
        upgraded(engine)
    assert inspect(engine).get_table_names() == ["answers"]
