"""Copies a prefix with boto3: fetch.py classic|crt URL BUCKET PREFIX FOLDER"""

import os
import sys

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager

client, url, bucket, prefix, folder = sys.argv[1:]
s3 = boto3.client("s3", endpoint_url=url, config=boto3.session.Config(max_pool_connections=32))
config = TransferConfig(max_concurrency=16, preferred_transfer_client=client)
keys = [
    entry["Key"]
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    for entry in page.get("Contents", [])
]
paths = [os.path.join(folder, key[len(prefix) :]) for key in keys]
for parent in {os.path.dirname(path) for path in paths}:
    os.makedirs(parent, exist_ok=True)
# One manager for all: as s3transfer is meant to be used, and as the AWS CLI does.
with create_transfer_manager(s3, config) as manager:
    for done in [manager.download(bucket, key, path) for key, path in zip(keys, paths)]:
        done.result()
