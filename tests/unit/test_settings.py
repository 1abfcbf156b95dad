"""Settings: where they come from, what is refused, and that the template documents every one."""

import re

import pytest

from pacs import env_file, settings
from pacs.cli import config
from pacs.errors import Invalid
from pacs.fhir_settings import systems
from tests.server import PROJECT
from tests.unit.test_env_file import RACCOON

TEMPLATE = (PROJECT / "config" / ".env.template").read_text()


def load(home, environment=None, env=None):
    if env is not None:
        (home / ".env").write_text(env)
    return settings.load(environment={"PACS_HOME": str(home), **(environment or {})})


def test_defaults_are_those_of_the_issue(tmp_path):
    loaded = load(tmp_path)

    values = loaded.settings
    assert values.dicom_store_rootpath == tmp_path / "data"
    assert values.dimse_ae_config == tmp_path / "config" / "ae.properties"
    assert (values.server_host, values.server_port, values.dicomweb_api) == ("127.0.0.1", 8081, "dicom-web")
    assert (values.dimse_ae_title, values.dimse_hostname, values.dimse_port) == ("DCMQRSCP", "127.0.0.1", 11112)
    assert (values.enable_dimse, values.dicomweb_host, values.dicomweb_port) == (True, "{host}", None)
    assert values.dicom_store_filepath == "{now,date,yyyy/MM}/{0020000D}/{0020000E}/{00080018}"
    assert loaded.warnings == ()


def test_environment_wins_over_env_file_and_the_command_line_over_both(tmp_path):
    (tmp_path / ".env").write_text("SERVER_PORT=1111\nDIMSE_PORT=2222\nDICOMWEB_API=rs\n")
    environment = {"PACS_HOME": str(tmp_path), "DIMSE_PORT": "3333", "DICOMWEB_API": "env"}

    values = settings.load({"DICOMWEB_API": "argument"}, environment=environment).settings

    assert (values.server_port, values.dimse_port, values.dicomweb_api) == (1111, 3333, "argument")


def test_env_file_of_the_working_directory_makes_it_the_project_folder(tmp_path):
    (tmp_path / ".env").write_text("DICOM_STORE_ROOTPATH=here\n")

    values = settings.load(environment={}, working_directory=tmp_path).settings

    assert values.home == tmp_path
    assert values.dicom_store_rootpath == tmp_path / "here"


def test_every_wrong_value_is_named_in_one_message(tmp_path):
    wrong = {
        "SERVER_PORT": "70000",
        "ENABLE_DIMSE": "perhaps",
        "DIMSE_AE_TITLE": "MORE_THAN_SIXTEEN_LETTERS",
        "MONGODB_PORTS": "[27017",
    }

    with pytest.raises(Invalid) as refused:
        load(tmp_path, wrong)

    lines = str(refused.value).splitlines()
    assert lines[0] == "4 settings are wrong:"
    assert "  SERVER_PORT=70000: expected a port number, 1 to 65535 (default: 8081)" in lines
    assert "  ENABLE_DIMSE=perhaps: expected true or false (default: true)" in lines
    assert any(line.startswith("  DIMSE_AE_TITLE=MORE_THAN_SIXTEEN_LETTERS: expected 1 to 16") for line in lines)
    assert any(line.startswith("  MONGODB_PORTS=[27017: expected port numbers") for line in lines)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVER_PORT", "0"),
        ("SERVER_PORT", "80.5"),
        ("SERVER_PORT", "http"),
        ("DIMSE_AE_TITLE", "   "),
        ("DIMSE_AE_TITLE", "A\\B"),
        ("DIMSE_AE_TITLE", "ÄRZTE"),
        ("MIN_FREE_BYTES", "a lot"),
        ("MIN_FREE_BYTES", "-1"),
        ("DUPLICATES", "merge"),
        ("IMAGING_TIMEOUT_S", "nan"),
        ("IMAGING_TIMEOUT_S", "inf"),
        ("IMAGING_TIMEOUT_S", "0"),
        ("IMAGING_WORKERS", "0"),
        ("SERVER_WORKERS", "0"),
        ("DIMSE_IDLE_TIMEOUT_S", "-1"),
        ("DIMSE_MAX_PDU", "100"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
        ("DICOMWEB_API", "a b"),
        ("DICOMWEB_API", "/"),
        ("FHIRSERVER_BASE_URL", "fhir.example/fhir"),
        ("FHIRSERVER_BASE_URL", "http://user:password@fhir.example/"),
        ("FHIR_TIMEZONE", "Mars/Olympus"),
        ("FHIR_PATIENT_SYSTEMS", "NORTH"),
        ("CORS_ALLOWED_ORIGINS", "localhost:3000"),
        ("CORS_ALLOWED_ORIGINS", "http://a.example/path"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,proxy"),
        ("DICOM_STORE_FILEPATH", "../{00080018}"),
        ("DICOM_STORE_FILEPATH", "{0008}"),
        ("DICOM_STORE_FILEPATH", "{00080018"),
        ("DICOM_STORE_FILEPATH", "{00080018,sort}"),
        ("QIDO_DEFAULT_LIMIT", "5001"),
        ("DCM4CHE_QRSCP_COMMAND", "dcmqrscp -b X:1"),
        ("DCM4CHE_QRSCP_COMMAND", '["-b", "no port"]'),
        ("DCM4CHE_QRSCP_COMMAND", '{"-b": 1}'),
    ],
)
def test_wrong_value_is_refused_by_name(tmp_path, name, value):
    with pytest.raises(Invalid) as refused:
        load(tmp_path, {name: value})

    assert name in str(refused.value)
    assert refused.value.subject == name


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("MIN_FREE_BYTES", "0", 0),
        ("MIN_FREE_BYTES", "500MiB", 500 << 20),
        ("STOW_MAX_BYTES", "4GiB", 4 << 30),
        (
            "CORS_ALLOWED_ORIGINS",
            "http://a.example, https://b.example:8443",
            ("http://a.example", "https://b.example:8443"),
        ),
        ("CORS_ALLOWED_ORIGINS", '["*"]', ("*",)),
        ("TRUSTED_PROXIES", "10.0.0.0/8,::1", ("10.0.0.0/8", "::1")),
        ("DICOMWEB_API", "/api/dicom-web/", "api/dicom-web"),
        ("DUPLICATES", "Replace", "replace"),
        ("LOG_LEVEL", "debug", "DEBUG"),
        ("ENABLE_DIMSE", "FALSE", False),
        ("DIMSE_AE_TITLE", " MY PACS ", "MY PACS"),
        ("SERVER_PORT", "", 8081),
        ("DICOM_STORE_FILEPATH", "{now,date,yyyy/MM/dd}/{00080018}.dcm", "{now,date,yyyy/MM/dd}/{00080018}.dcm"),
    ],
)
def test_value_is_understood(tmp_path, name, text, value):
    assert getattr(load(tmp_path, {name: text}).settings, name.lower()) == value


def test_secrets_are_never_shown(tmp_path):
    environment = {"MONGODB_PASSWORD": "hunter2", "SERVER_SESSION_SECRET_KEY": "s3cret"}

    loaded = load(tmp_path, environment)

    shown = f"{loaded} {settings.effective(loaded.settings)}"
    assert "hunter2" not in shown
    assert "s3cret" not in shown
    assert settings.effective(loaded.settings)["MONGODB_PASSWORD"].strip("*") == ""


def test_raccoons_file_is_taken(tmp_path):
    loaded = load(tmp_path, env=RACCOON)

    assert loaded.settings.mongodb_hosts == ("mongodb",)
    assert loaded.settings.mongodb_ports == (27017,)
    assert loaded.settings.mongodb_name == "raccoon-dicom"
    assert not loaded.settings.mongodb_is_sharding_mode
    assert loaded.settings.dicomweb_port == 8081
    assert loaded.settings.dimse_ae_title == "DCMQRSCP"
    assert loaded.settings.dimse_check_called_ae
    assert loaded.settings.dimse_ae_config == tmp_path / "config" / "ae.properties"
    assert loaded.warnings == ()


def test_qrscp_command_gives_ae_title_port_peers_and_file_pattern(tmp_path):
    command = (
        '["-b", "RACC@10.0.0.5:104", "--dicomdir", "{project}/config/DICOMDIR", "--ae-config", "{project}/peers", '
        '"--all-storage", "--filepath", "DICOM/{0020000D,hash}/{00080018,hash}.dcm", "--raccoon", "x", "--no-such"]'
    )

    loaded = load(tmp_path, {"DCM4CHE_QRSCP_COMMAND": command})

    values = loaded.settings
    assert (values.dimse_ae_title, values.dimse_hostname, values.dimse_port) == ("RACC", "10.0.0.5", 104)
    assert values.dimse_ae_config == tmp_path / "peers"
    assert values.dicom_store_filepath == "DICOM/{0020000D,hash}/{00080018,hash}.dcm"
    assert [re.search(r"--[\w-]+", warning)[0] for warning in loaded.warnings] == [
        "--dicomdir",
        "--all-storage",
        "--raccoon",
        "--no-such",
    ]


def test_explicit_dimse_settings_win_over_the_qrscp_command(tmp_path):
    command = '["-b", "RACC:104", "--ae-config", "peers"]'
    explicit = {"DIMSE_AE_TITLE": "OTHER", "DIMSE_PORT": "11113"}

    values = load(tmp_path, {"DCM4CHE_QRSCP_COMMAND": command, **explicit}).settings

    assert (values.dimse_ae_title, values.dimse_port) == ("OTHER", 11113)
    assert values.dimse_ae_config == tmp_path / "peers"


def test_port_alone_in_the_qrscp_command_keeps_any_called_ae_title(tmp_path):
    values = load(tmp_path, {"DCM4CHE_QRSCP_COMMAND": '["-b", "104"]'}).settings

    assert (values.dimse_port, values.dimse_ae_title, values.dimse_check_called_ae) == (104, "DCMQRSCP", False)


@pytest.mark.parametrize("name", ["SYCN_TO_FHIR_SERVER", "SYNC_TO_FHIR_SERVER"])
def test_fhir_switch_is_read_in_both_spellings(tmp_path, name):
    values = load(tmp_path, {name: "true", "FHIRSERVER_BASE_URL": "http://fhir:8088/fhir/"}).settings

    assert values.sync_to_fhir_server
    assert values.fhirserver_base_url == "http://fhir:8088/fhir"


def test_fhir_without_a_server_is_refused(tmp_path):
    with pytest.raises(Invalid, match="FHIRSERVER_BASE_URL is not set"):
        load(tmp_path, {"SYNC_TO_FHIR_SERVER": "true"})


def test_half_an_oauth_login_is_refused(tmp_path):
    with pytest.raises(Invalid, match="one is missing"):
        load(tmp_path, {"FHIRSERVER_TOKEN_URL": "http://login/token", "FHIRSERVER_CLIENT_ID": "pacs"})


@pytest.mark.parametrize(
    ("environment", "address", "is_warned"),
    [
        ({}, "http://127.0.0.1:8081/dicom-web", True),
        ({"SERVER_HOST": "10.0.0.5"}, "http://10.0.0.5:8081/dicom-web", False),
        ({"DICOMWEB_HOST": "pacs.example", "DICOMWEB_PORT": "443"}, "http://pacs.example:443/dicom-web", False),
        ({"DICOMWEB_HOST": "https://pacs.example:8443", "DICOMWEB_API": "rs"}, "https://pacs.example:8443/rs", False),
        ({"DICOMWEB_HOST": "https://pacs.example"}, "https://pacs.example/dicom-web", False),
        ({"SERVER_HOST": "2001:db8::5"}, "http://[2001:db8::5]:8081/dicom-web", False),
        ({"FHIR_DICOMWEB_URL": "https://pacs.example/rs/"}, "https://pacs.example/rs", False),
    ],
)
def test_fhir_endpoint_says_where_the_images_are(tmp_path, environment, address, is_warned):
    switched_on = {"SYNC_TO_FHIR_SERVER": "true", "FHIRSERVER_BASE_URL": "http://fhir"}
    loaded = load(tmp_path, {**switched_on, **environment})

    assert settings.fhir_endpoint(loaded.settings)[0] == address
    assert [address in warning for warning in loaded.warnings] == [True] * is_warned


def test_namespaces_of_identifiers_are_by_issuer(tmp_path):
    text = "http://a.example/mrn?x=1, NORTH=urn:oid:1.2.3"
    values = load(tmp_path, {"FHIR_PATIENT_SYSTEMS": text}).settings

    assert systems(values.fhir_patient_systems) == {"": "http://a.example/mrn?x=1", "NORTH": "urn:oid:1.2.3"}


def test_near_miss_in_env_file_is_warned_about_and_other_names_are_not(tmp_path):
    loaded = load(tmp_path, env="DIMSE_AETITLE=X\nSERVERPORT=1\nNODE_ENV=production\nTZ=UTC\n")

    assert len(loaded.warnings) == 2
    assert "did you mean DIMSE_AE_TITLE?" in loaded.warnings[0]
    assert "did you mean SERVER_PORT?" in loaded.warnings[1]


def test_unreadable_env_file_is_refused_with_its_line(tmp_path):
    with pytest.raises(Invalid, match=r"\.env: line 2 "):
        load(tmp_path, env="SERVER_PORT=1\nnonsense\n")


def test_settings_are_frozen(tmp_path):
    values = load(tmp_path).settings

    with pytest.raises(ValueError, match="frozen"):
        values.server_port = 1


def test_template_is_what_the_table_says():
    assert config.template() == TEMPLATE, "run: pacs config --template > config/.env.template"


def test_template_documents_every_setting_with_its_default(tmp_path):
    uncommented = re.sub(r"(?m)^#(?=[A-Z0-9_]+=)", "", TEMPLATE)

    values = env_file.parse(uncommented)

    assert list(values) == settings.names()
    assert load(tmp_path, env=uncommented).settings == load(tmp_path, env="").settings


def test_every_example_in_the_template_is_a_valid_value(tmp_path):
    examples = dict(re.findall(r"(?m)^# Example: ([A-Z0-9_]+)=(.*)$", TEMPLATE))

    assert list(examples) == settings.names()
    # Those that mean something together only.
    needed = {
        "MONGODB_TLS": "true",
        **{name: examples[name] for name in examples if name.startswith(("FHIRSERVER_", "OIDC_CLIENT_ID"))},
    }
    for name, example in examples.items():
        given = {**needed, name: example}
        load(tmp_path, env="".join(f"{each}={value}\n" for each, value in given.items()))


def test_template_is_loadable_as_it_is(tmp_path):
    assert load(tmp_path, env=TEMPLATE).settings == load(tmp_path, env="").settings


def test_effective_values_read_back_the_same(tmp_path):
    values = load(tmp_path, {"CORS_ALLOWED_ORIGINS": "http://a.example", "MIN_FREE_BYTES": "123"}).settings

    assert load(tmp_path, settings.effective(values)).settings == values
