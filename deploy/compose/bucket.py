"""Make an S3 bucket, unless it exists, and let everyone read the objects below a prefix: bucket.py BUCKET PREFIX."""

from __future__ import annotations

import json
import sys

import s3fs

bucket, prefix = sys.argv[1:]
store = s3fs.S3FileSystem()
store.makedirs(bucket, exist_ok=True)
statement = {"Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": ["s3:GetObject"], "Resource": [f"arn:aws:s3:::{bucket}/{prefix}/*"]}
store.call_s3("put_bucket_policy", Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
