"""Copies a prefix with boto3: fetch.py classic|crt URL BUCKET PREFIX FOLDER"""

import os
import sys

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.session import Session
from s3transfer import crt

client, url, bucket, prefix, folder = sys.argv[1:]
s3 = boto3.client("s3", endpoint_url=url, config=boto3.session.Config(max_pool_connections=32, s3={"addressing_style": "path"}))


def manager():
    """One for all files: as s3transfer is meant to be used, and as the AWS CLI does."""
    if client == "classic":
        config = TransferConfig(max_concurrency=16, preferred_transfer_client="classic")
        return create_transfer_manager(s3, config)
    # Not by way of boto3, whose CRT client takes neither an endpoint nor plain HTTP.
    session = Session()
    credentials = crt.BotocoreCRTCredentialsWrapper(session.get_credentials())
    made = crt.create_s3_crt_client(
        "us-east-1", crt_credentials_provider=credentials.to_crt_credentials_provider(), use_ssl=False
    )
    settings = {"endpoint_url": url, "region_name": "us-east-1"}
    return crt.CRTTransferManager(made, crt.BotocoreCRTRequestSerializer(session, settings))


keys = [
    entry["Key"]
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    for entry in page.get("Contents", [])
]
paths = [os.path.join(folder, key[len(prefix) :]) for key in keys]
for parent in {os.path.dirname(path) for path in paths}:
    os.makedirs(parent, exist_ok=True)
with manager() as transfers:
    for done in [transfers.download(bucket, key, path) for key, path in zip(keys, paths)]:
        done.result()
