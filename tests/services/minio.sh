#!/usr/bin/env bash
# One real MinIO server (S3), for tests. frame.sh says how it is called. It tells
#
#   TRIBUTARY_TEST_S3           URL of a lake in a bucket of this server
#   AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ALLOW_HTTP
#                               what a client needs to get there
#
# Needs Go and Python 3. The first start compiles MinIO, which takes minutes.
#
# Its releases are not named in a way that Go understands; this is the last one.
version=v0.0.0-20260212201848-7aac2a2c5b7c
ports=1
. "$(dirname "${BASH_SOURCE[0]}")/frame.sh"
bucket=tributary

fetch() {
    from_go "github.com/minio/minio@$version"
}

configure() {
    # A directory in the place of its data is a bucket.
    mkdir -p "$root/data/$bucket"
    command=(env MINIO_ROOT_USER=tributary MINIO_ROOT_PASSWORD=test-password MINIO_BROWSER=off MINIO_UPDATE=off
        "$fetched/minio" server "$root/data" --quiet --address "127.0.0.1:${port[0]}")
}

answers() {
    curl -fs --noproxy "*" --max-time 2 "http://127.0.0.1:${port[0]}/minio/health/ready"
}

environment() {
    cat <<END
TRIBUTARY_TEST_S3=s3://$bucket/lake/
AWS_ENDPOINT_URL=http://127.0.0.1:${port[0]}
AWS_ACCESS_KEY_ID=tributary
AWS_SECRET_ACCESS_KEY=test-password
AWS_REGION=us-east-1
AWS_ALLOW_HTTP=true
END
}

serve "$@"
