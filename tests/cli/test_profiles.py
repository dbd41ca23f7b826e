import json

from click.testing import CliRunner

from evedge.cli.profiles import command
from evedge.profiles import names


def run(*arguments, exit_code=0):
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == exit_code, result.output
    return result


def test_the_list_is_one_line_each_in_a_pipe():
    lines = run().stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == list(names())


def test_the_list_as_json():
    document = json.loads(run("--json").stdout)
    assert {"name", "vendor", "model"} <= set(document[0])
    assert [profile["name"] for profile in document] == list(names())


def test_a_profile_is_explained_with_what_may_be_written():
    output = run("show", "keba-kecontact-p40").stdout
    assert "14 requests every 10 s" in output
    assert "current_limit_set\tholding 5004\tuint16 x 0.001\tA\tw\t\twritable: 0 A or 6 to 32 A" in output


def test_a_profile_as_json():
    document = json.loads(run("show", "abb-terra-ac", "--json").stdout)
    registers = {register["name"]: register for register in document["registers"]}
    assert document["name"] == "abb-terra-ac"
    assert registers["current_l1_a"]["address"] == 0x4010
    assert registers["current_l1_a"]["writable"] is False
    limit = registers["current_limit_set"]
    assert (limit["writable"], limit["min"], limit["max"], limit["also"]) == (True, 6, 32, [0])
    assert document["limit"]["pause"] == [{"register": "current_limit_set", "value": 0}]
    assert document["requests"]["poll"][0]["count"] == 30


def test_check_prints_one_line_for_each_mistake(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[device]\nvendor = "Me"\n[registers]\nmode = { adress = 1 }\n')
    result = run("check", str(file), exit_code=2)
    lines = result.stderr.splitlines()
    assert f"{file}: device.model: is missing" in lines
    assert f"{file}: registers.mode.adress: there is no such key; did you mean address?" in lines
    assert json.loads(run("check", str(file), "--json", exit_code=2).stdout)["ok"] is False


def test_check_of_a_good_profile(tmp_path):
    assert run("check", "abb-terra-ac").stdout == "abb-terra-ac: no mistakes, 24 registers\n"
    assert json.loads(run("check", "abb-terra-ac", "--json").stdout) == {"ok": True, "mistakes": []}
