"""`.env` is read as the node package dotenv reads it."""

import json

import pytest

from pacs import env_file

RACCOON = """\
# MongoDB
MONGODB_NAME="raccoon-dicom"
MONGODB_HOSTS=["mongodb"]
MONGODB_PORTS=[27017]
MONGODB_IS_SHARDING_MODE=false

# DICOM Web
DICOMWEB_HOST="{host}"
DICOMWEB_PORT=8081

DCM4CHE_QRSCP_COMMAND=`[
    "-b",
    "DCMQRSCP:11112",
    "--ae-config",
    "{project}/config/ae.properties"
]`

# FHIR
SYCN_TO_FHIR_SERVER=false
FHIRSERVER_BASE_URL="http://localhost:8088/fhir"

"""


def test_raccoons_file_is_read_unchanged():
    values = env_file.parse(RACCOON)

    assert list(values) == [
        "MONGODB_NAME",
        "MONGODB_HOSTS",
        "MONGODB_PORTS",
        "MONGODB_IS_SHARDING_MODE",
        "DICOMWEB_HOST",
        "DICOMWEB_PORT",
        "DCM4CHE_QRSCP_COMMAND",
        "SYCN_TO_FHIR_SERVER",
        "FHIRSERVER_BASE_URL",
    ]
    assert values["MONGODB_HOSTS"] == '["mongodb"]'
    assert json.loads(values["DCM4CHE_QRSCP_COMMAND"])[1] == "DCMQRSCP:11112"
    assert values["FHIRSERVER_BASE_URL"] == "http://localhost:8088/fhir"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=1", "1"),
        ("A = 1 ", "1"),
        ("export A=1", "1"),
        ("A=", ""),
        ("A=''", ""),
        ("A=two words", "two words"),
        ("A=bare # comment", "bare"),
        ("A='#not a comment' # comment", "#not a comment"),
        ('A="two\\nlines"', "two\nlines"),
        ("A='no\\nescape'", "no\\nescape"),
        ('A="a \\"quoted\\" word"', 'a "quoted" word'),
        ('A="C:\\\\data"', "C:\\data"),
        ('A="first\nsecond"', "first\nsecond"),
        ('A=`it\'s "both"`', 'it\'s "both"'),
        ("A=$HOME", "$HOME"),
        ("A=1\r\n", "1"),
        ("\ufeffA=1", "1"),
        ("A=1\nA=2", "2"),
        ('A=["a", "b"]', '["a", "b"]'),
        ("A=it's", "it's"),
    ],
)
def test_value_of_a_line(line, value):
    assert env_file.parse(line) == {"A": value}


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment", "   \n\t\n# x"])
def test_nothing_is_read_from_blank_lines_and_comments(text):
    assert env_file.parse(text) == {}


@pytest.mark.parametrize(
    ("text", "number"), [("A=1\nnonsense\n", 2), ("A=`[\n1,\n", 1), ("\n\nA='open\nB=2\n", 3), ('A="x" y', 1)]
)
def test_a_line_that_cannot_be_read_is_named(text, number):
    with pytest.raises(ValueError, match=f"line {number} "):
        env_file.parse(text)
