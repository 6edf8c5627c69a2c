"""Settings that cannot be used say so at once."""

import pytest
from tallymark.settings import Settings, SettingsError


@pytest.mark.parametrize("name", ["raw.duckdb", "Output.db", "snapshot", "main.duckdb", "temp.duckdb", "system.duckdb"])
def test_a_warehouse_that_is_called_like_a_schema(tmp_path, name):
    with pytest.raises(SettingsError, match=r"would be a database called .* another name, such as warehouse\.duckdb"):
        Settings(warehouse=tmp_path / name)


@pytest.mark.parametrize("name", ["it's.duckdb", 'a"b.duckdb', "a;b.duckdb", "a#b/w.duckdb", "a?b/w.duckdb", "w\n.db"])
def test_a_warehouse_whose_name_is_read_as_something_else(tmp_path, name):
    with pytest.raises(SettingsError, match=r"has .* in it, which is read as something else; rename it"):
        Settings(warehouse=tmp_path / name)


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_a_warehouse_that_is_a_folder(path):
    with pytest.raises(SettingsError, match="is a folder; name a file in it"):
        Settings(warehouse=path)


@pytest.mark.parametrize("name", ["warehouse", "ware house.duckdb", "it's/raw/w.db", "a.b.c", "ünï.duckdb", "1.duckdb"])
def test_other_names_are_good(tmp_path, name):
    assert Settings(warehouse=tmp_path / name).warehouse == tmp_path / name
