# AWS' own SDK for Python, boto3, against a Certificate Manager: KEY_ID SECRET REGION ARN. Says with which error ARN is refused. With
# CERTIFICATE CHAIN KEY OTHER_CERTIFICATE OTHER_KEY USED, all in PEM but the last: exports ARN, which consists of the first three;
# imports them twice, puts the others in the place of one, changes its tags, deletes the second, and tries to delete USED.
import json
import os
import sys

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.serialization import load_pem_private_key

url, key_id, secret, region, arn, *material = sys.argv[1:]
# What the machine has configured for AWS has no say.
for name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[name]
os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)
core = botocore.session.get_session()
session = boto3.Session(key_id, secret, region_name=region, botocore_session=core)
# Of the two protocols that the search by tags has, boto3 prefers CBOR, and the version of AWS' SDK for Rust that we use speaks JSON.
model = core.get_component("data_loader").load_service_model("resourcegroupstaggingapi", "service-2")
model["metadata"].update(protocol="json", protocols=["json"])


def client(service):
    return session.client(service, endpoint_url=url, config=Config(retries={"total_max_attempts": 1}))


def code(call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]


acm, tagging = client("acm"), client("resourcegroupstaggingapi")
if not material:
    print(json.dumps([code(acm.get_certificate, CertificateArn=arn), code(tagging.get_resources)]))
    sys.exit()

certificate, chain, key, other_certificate, other_key, used = material
first = {"Certificate": certificate.encode(), "CertificateChain": chain.encode(), "PrivateKey": key.encode()}
other = {"Certificate": other_certificate.encode(), "PrivateKey": other_key.encode()}
tags = [{"Key": "team", "Value": "a"}, {"Key": "stage", "Value": "prod"}]


def described(arn):
    detail = acm.describe_certificate(CertificateArn=arn)["Certificate"]
    return [detail["CertificateArn"] == arn, detail["Type"], detail["Options"]["Export"]]


def got(arn):
    answer = acm.get_certificate(CertificateArn=arn)
    return answer["Certificate"], answer["CertificateChain"]


def tagged(arn):
    return {tag["Key"]: tag["Value"] for tag in acm.list_tags_for_certificate(CertificateArn=arn)["Tags"]}


def found(*filters):
    search = tagging.get_paginator("get_resources")
    pages = list(search.paginate(ResourceTypeFilters=["acm:certificate"], TagFilters=filters))
    return len(pages), sorted(one["ResourceARN"] for page in pages for one in page["ResourceTagMappingList"])


def numbers(pem, passphrase=None):
    return load_pem_private_key(pem.encode(), passphrase).private_numbers()


answer = acm.export_certificate(CertificateArn=arn, Passphrase=b"a passphrase")
exported = [
    (answer["Certificate"], answer["CertificateChain"]) == (certificate, chain),
    answer["PrivateKey"].startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"),
    numbers(answer["PrivateKey"], b"a passphrase") == numbers(key),
]
new = acm.import_certificate(**first, Tags=tags)["CertificateArn"]
second = acm.import_certificate(**first, Tags=tags[:1])["CertificateArn"]
of_team, of_both = found({"Key": "team", "Values": ["b", "a"]}), found({"Key": "team", "Values": ["a"]}, {"Key": "stage"})
before = got(new)
replaced = acm.import_certificate(CertificateArn=new, **other)["CertificateArn"]
acm.add_tags_to_certificate(CertificateArn=new, Tags=[{"Key": "stage", "Value": "test"}, {"Key": "empty"}])
acm.remove_tags_from_certificate(CertificateArn=new, Tags=[{"Key": "team"}, {"Key": "stage", "Value": "prod"}])
acm.delete_certificate(CertificateArn=second)
print(json.dumps({
    "described": [described(arn), described(new)],
    "exported": exported,
    "new": new,
    "imported": [before == (certificate, chain), replaced == new, got(new) == (other_certificate, other_certificate)],
    "of the team": [of_team[0], of_team[1] == sorted([new, second])],
    "of the team's stage": [of_both[0], of_both[1] == [new]],
    "of nobody": found({"Key": "team", "Values": ["b"]}),
    "tags": tagged(new),
    "errors": {
        "gone": code(acm.get_certificate, CertificateArn=second),
        "deleted twice": code(acm.delete_certificate, CertificateArn=second),
        "nothing to replace": code(acm.import_certificate, CertificateArn=second, **other),
        "in use": code(acm.delete_certificate, CertificateArn=used),
        "two certificates": code(acm.import_certificate, Certificate=2 * first["Certificate"], PrivateKey=first["PrivateKey"]),
        "no key": code(acm.import_certificate, Certificate=first["Certificate"], PrivateKey=first["Certificate"]),
        "tags of a replacement": code(acm.import_certificate, CertificateArn=new, Tags=tags, **other),
        "not exportable": code(acm.export_certificate, CertificateArn=new, Passphrase=b"a passphrase"),
        "short passphrase": code(acm.export_certificate, CertificateArn=arn, Passphrase=b"abc"),
        "bad passphrase": code(acm.export_certificate, CertificateArn=arn, Passphrase=b"a#passphrase"),
    },
}))
