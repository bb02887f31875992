#!/usr/bin/env bash
# One real MinIO server (S3), for tests. frame.sh says how it is called. It tells
#
#   TRIBUTARY_TEST_S3           URL of a lake in a bucket of this server
#   AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ALLOW_HTTP
#                               what a client needs to get there
#   TRIBUTARY_TEST_S3_CA        the file with the certificate of who signed the server's, with MINIO_TLS
#
# MINIO_TLS=1 makes it speak https, and CERTIFICATE_DAYS=0 with a certificate that has expired. MINIO_PASSWORD is another secret
# key than the one that it tells.
#
# Needs Go, Python 3, and OpenSSL for MINIO_TLS. The first start compiles MinIO, which takes minutes.
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
    # It speaks https when it finds a certificate.
    mkdir -p "$root/data/$bucket" "$root/certs"
    rm -f "$root/certs"/*.*
    if [ -n "${MINIO_TLS:-}" ]; then
        certify
        cp "$root/server.crt" "$root/certs/public.crt"
        cp "$root/server.key" "$root/certs/private.key"
    fi
    command=(env MINIO_ROOT_USER=tributary "MINIO_ROOT_PASSWORD=${MINIO_PASSWORD:-test-password}" MINIO_BROWSER=off
        MINIO_UPDATE=off "$fetched/minio" server "$root/data" --quiet --certs-dir "$root/certs"
        --address "127.0.0.1:${port[0]}")
}

answers() {
    curl -fsk --noproxy "*" --max-time 2 "$(url)/minio/health/ready"
}

url() {
    echo "http${MINIO_TLS:+s}://127.0.0.1:${port[0]}"
}

environment() {
    cat <<END
TRIBUTARY_TEST_S3=s3://$bucket/lake/
AWS_ENDPOINT_URL=$(url)
AWS_ACCESS_KEY_ID=tributary
AWS_SECRET_ACCESS_KEY=test-password
AWS_REGION=us-east-1
AWS_ALLOW_HTTP=true
END
    [ -z "${MINIO_TLS:-}" ] || echo "TRIBUTARY_TEST_S3_CA=$root/ca.pem"
}

serve "$@"
