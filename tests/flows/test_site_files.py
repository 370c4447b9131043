"""Files for real sites: they parse, name commands that exist, and set only what there is."""

import configparser
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml
from prefect.settings import Settings as PrefectSettings
from prefect.settings.legacy import _get_settings_fields
from sqlalchemy.engine import make_url

from arraycal.config.settings import PREFIX, Settings, variable
from arraycal.flows.cli.arguments import make_parser
from arraycal.flows.jobs.home import POOL
from arraycal.flows.jobs.parameters import NightOptions
from arraycal.flows.night.options import checked, read_options

FOLDER = Path(__file__).parents[2] / "deployments"
UNITS = sorted((FOLDER / "systemd").glob("*.service"))
ENVIRONMENTS = sorted(FOLDER.glob("*.env.example"))
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
#: Read by others than Prefect and arraycal.
OTHERS = {
    "DO_NOT_TRACK",
    "POSTGRES_USER",
    "POSTGRES_PASSWORD",
    "POSTGRES_DB",
    "PYTHONUNBUFFERED",
} | {"PGPASSWORD"}


def known(name):
    if name.startswith(PREFIX):
        return name.removeprefix(PREFIX).lower() in Settings.model_fields
    return name in OTHERS or name in _get_settings_fields(PrefectSettings)


class Unit(configparser.RawConfigParser):
    def optionxform(self, optionstr):
        return optionstr


def unit(path):
    parser = Unit(strict=False)
    parser.read_string(path.read_text(encoding="utf-8"))
    return parser


def environment(path):
    return dict(
        re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    )


def refuse_unknown_command(words):
    program, *arguments = words
    name = Path(program).name
    assert name in {item.name for item in entry_points(group="console_scripts")} | {"arraycal"}
    if name == "arraycal":
        make_parser().parse_args(arguments)
        return
    assert name == "prefect"
    assert arguments[:2] in (["server", "start"], ["worker", "start"])
    if arguments[0] == "worker":
        assert arguments[2:6] == ["--pool", POOL, "--type", "process"]


def scripts():
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8"))
    return project["project"]["scripts"]


def test_there_are_units_for_server_and_worker():
    assert [path.stem for path in UNITS] == ["arraycal-server", "arraycal-worker"]
    assert "arraycal" in scripts()


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_the_commands_of_a_unit_exist(path):
    service = unit(path)["Service"]
    for key in ("ExecStartPre", "ExecStart"):
        if key in service:
            refuse_unknown_command(shlex.split(service[key].replace("%H", "host")))


def test_the_worker_stops_before_its_server():
    # systemd stops in the reverse order of After=.
    assert unit(UNITS[1])["Unit"]["After"] == UNITS[0].name
    assert unit(UNITS[1])["Service"]["KillMode"] == "mixed"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_finds_nothing_wrong_with_a_unit(path, tmp_path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("there is no systemd-analyze")
    for other in UNITS:
        text = other.read_text(encoding="utf-8")
        # Programs and environment of the site, which are not on this machine.
        text = re.sub(r"/opt/arraycal/bin/\S+", "/bin/true", text)
        (tmp_path / other.name).write_text(text)
    done = subprocess.run(
        [program, "verify", "--man=no", str(tmp_path / path.name)],
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if path.name in line]
    assert not complaints


def manual():
    """Shell commands of the way to a site with systemd, block by block."""
    text = (FOLDER.parent / "docs" / "deployment.md").read_text(encoding="utf-8")
    section = text.partition("### With systemd")[2].partition("### With containers")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def test_the_manual_is_shell_and_makes_all_that_the_units_need():
    commands = "\n".join(manual())
    subprocess.run(["bash", "-n"], input=commands, text=True, check=True)
    for path in UNITS:
        service = unit(path)["Service"]
        assert (
            f"adduser --system --group --home /var/lib/arraycal --no-create-home {service['User']}"
            in (commands)
        )
        assert service["EnvironmentFile"] in commands
        assert service["ExecStart"].startswith("/opt/arraycal/bin/")
        assert path.stem in commands
    assert "python3 -m venv /opt/arraycal" in commands
    assert "'.[postgres]'" in commands
    worker = environment(FOLDER / "worker.env.example")
    writable = unit(UNITS[1])["Service"]["ReadWritePaths"].split()
    for name in ("ARRAYCAL_OUTPUT_ROOT", "ARRAYCAL_CACHE_ROOT"):
        assert re.search(rf"install -d -o arraycal -g arraycal .*{worker[name]}\n", commands)
        assert any(worker[name].startswith(folder) for folder in writable)


def test_the_manual_makes_databases_that_the_environments_name():
    commands = "\n".join(manual())
    server, worker = (environment(FOLDER / f"{name}.env.example") for name in ("server", "worker"))
    history = make_url(worker["ARRAYCAL_DATABASE_URL"])
    prefect = "PREFECT_SERVER_DATABASE"
    assert server[f"{prefect}_NAME"] != history.database
    for user, name in (
        (server[f"{prefect}_USER"], server[f"{prefect}_NAME"]),
        (history.username, history.database),
    ):
        assert f"CREATE ROLE {user} LOGIN" in commands
        assert f"CREATE DATABASE {name} OWNER {user};" in commands


def test_the_manual_fills_in_every_password(tmp_path):
    (commands,) = [block for block in manual() if "sed -i" in block]
    commands = commands.replace("-o root -g arraycal ", "").replace("/etc/arraycal", str(tmp_path))
    commands = re.sub(r"^(grep|editor) .*", "", commands, flags=re.MULTILINE)
    given = {"DB_PASSWORD": "1a2b", "UI_PASSWORD": "3c4d", "PATH": os.environ["PATH"]}
    subprocess.run(["bash", "-euc", commands], cwd=FOLDER.parent, env=given, check=True)
    texts = {path.stem: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.env")}
    assert sorted(texts) == ["server", "worker"]
    assert all(path.stat().st_mode & 0o777 == 0o640 for path in tmp_path.iterdir())
    assert not [text for text in texts.values() if "CHANGE-ME" in text]
    for name, line in (
        ("server", "PREFECT_SERVER_DATABASE_PASSWORD=1a2b"),
        ("server", "PREFECT_SERVER_API_AUTH_STRING=arraycal:3c4d"),
        ("worker", "PREFECT_API_AUTH_STRING=arraycal:3c4d"),
        ("worker", "PGPASSWORD=1a2b"),
        ("worker", "ARRAYCAL_NIGHTLY_OPTIONS=/etc/arraycal/nightly.yaml"),
    ):
        assert line in texts[name].splitlines()


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.name)
def test_an_environment_sets_only_what_there_is(path):
    names = environment(path)
    assert names
    assert [name for name in names if not known(name)] == []


def test_a_server_asks_for_a_password_and_says_where_it_listens():
    compose = COMPOSE["services"]["server"]["environment"]
    for found in (environment(FOLDER / "server.env.example"), compose):
        assert found["PREFECT_SERVER_API_AUTH_STRING"]
        assert found["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] == "true"
        assert found["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] != "*"
    listens = environment(FOLDER / "server.env.example")["PREFECT_SERVER_API_HOST"]
    assert listens == "127.0.0.1"
    assert COMPOSE["services"]["server"]["ports"] == ["127.0.0.1:4200:4200"]


def test_the_server_copies_its_ui_to_where_it_may_write():
    # Where Prefect is installed it may not, and then there is no UI.
    compose = COMPOSE["services"]["server"]
    for found in (environment(FOLDER / "server.env.example"), compose["environment"]):
        assert found["PREFECT_SERVER_UI_STATIC_DIRECTORY"].startswith("/var/lib/arraycal/")
    assert "server:/var/lib/arraycal" in compose["volumes"]
    assert unit(UNITS[0])["Service"]["StateDirectory"] == "arraycal"


def test_clients_send_the_password_of_the_server():
    server, worker = (environment(FOLDER / f"{name}.env.example") for name in ("server", "worker"))
    assert worker["PREFECT_API_AUTH_STRING"] == server["PREFECT_SERVER_API_AUTH_STRING"]
    assert worker["PREFECT_API_URL"].endswith(f":{server['PREFECT_SERVER_API_PORT']}/api")


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_a_container_runs_what_exists_with_settings_that_exist(name):
    service = COMPOSE["services"][name]
    assert [key for key in service["environment"] if not known(key)] == []
    assert set(service.get("depends_on", {})) <= set(COMPOSE["services"])
    if "command" in service:
        refuse_unknown_command(service["command"])
        assert (FOLDER / service["build"]["context"] / service["build"]["dockerfile"]).exists()


def test_every_variable_of_the_containers_is_in_the_example():
    text = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
    wanted = set(re.findall(r"\$\{([A-Z_]+)", text))
    assert wanted == set(environment(FOLDER / "env.example"))


def test_no_password_is_pasted_into_a_url():
    # A password with @ or / in it would make another URL.
    texts = [path.read_text(encoding="utf-8") for path in (*ENVIRONMENTS, FOLDER / "compose.yaml")]
    assert not [text for text in texts if re.search(r"://[^/@\s]*:[^/@\s]*@", text)]


@pytest.mark.parametrize("password", ["p@ss/w:rd#%?&", "with space'\"$"])
def test_any_password_reaches_the_databases_of_the_containers(password, monkeypatch):
    services = COMPOSE["services"]
    for name, text in services["server"]["environment"].items():
        if name.startswith("PREFECT_SERVER_DATABASE_"):
            monkeypatch.setenv(name, text.replace("${POSTGRES_PASSWORD}", password))
    secret = PrefectSettings().server.database.connection_url
    assert secret is not None
    url = make_url(secret.get_secret_value())
    assert (url.password, url.host, url.database) == (password, "database", "prefect")
    worker = services["worker"]["environment"]
    assert worker["PGPASSWORD"] == "${POSTGRES_PASSWORD}"
    history = make_url(worker["ARRAYCAL_DATABASE_URL"].partition(":-")[2].removesuffix("}"))
    assert (history.host, history.username, history.password) == ("database", "prefect", None)


def test_the_containers_get_every_setting_of_a_site():
    given = {
        name
        for service in COMPOSE["services"].values()
        for name in service["environment"]
        if name.startswith(PREFIX)
    }
    # Of the machine, not of the site: how its CPUs are used, what it logs; and of `arraycal up`.
    machine = {"auth", "home", "runner", "dask_address", "log_level"}
    assert given == {variable(name) for name in Settings.model_fields if name not in machine}


def test_the_options_of_the_example_are_options():
    options = checked(read_options(FOLDER / "nightly.yaml", "the example"))
    assert options == NightOptions()
    assert "./nightly.yaml:/etc" in " ".join(COMPOSE["services"]["register"]["volumes"]).replace(
        "}", ""
    )


def test_who_writes_results_in_the_container_has_the_number_that_is_stated():
    image = (FOLDER / "Containerfile").read_text(encoding="utf-8")
    (uid,) = re.findall(r"^ARG ARRAYCAL_UID=(\d+)", image, re.MULTILINE)
    assert "--uid ${ARRAYCAL_UID}" in image
    for text in (FOLDER / "env.example", FOLDER.parent / "docs" / "deployment.md"):
        assert f"chown {uid}:{uid}" in text.read_text(encoding="utf-8")


def test_the_image_gets_all_that_the_package_is_made_of():
    text = (FOLDER / "Containerfile").read_text(encoding="utf-8")
    copied = {
        word for line in re.findall(r"^COPY (.*)", text, re.MULTILINE) for word in line.split()[:-1]
    }
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8"))
    (package,) = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    links = [path for path in (FOLDER.parent / package).iterdir() if path.is_symlink()]
    wheel = {package, *(path.readlink().name for path in links)}
    files = {project["project"]["readme"], *project["project"]["license-files"]}
    assert copied == {*wheel, *files, "pyproject.toml", "constraints.txt"}
    extras = set(re.findall(r"'\.\[(\w+)\]'", text))
    assert extras <= set(project["project"]["optional-dependencies"])
