//! Which AWS operation a request is, read from the wire.
//!
//! The service is in the signature's credential scope. The operation is in `X-Amz-Target` (JSON
//! protocols), in `Action` (query protocols), or follows from method and path (REST protocols).

use bytes::Bytes;
use hyper::Method;
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;

/// A request to AWS, recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// The service as its SDK is called: `efs`, `lambda`, `s3`, …
    pub(crate) service: String,
    /// The operation as the API reference calls it; method and path where it is not known.
    pub(crate) operation: String,
    /// Path, query and, where it is text, body: what a fault rule's resource is looked for in.
    pub(crate) resource: String,
}

/// Method, path after the version with `*` for one segment, parameter that must be in the query.
type Route = (&'static str, &'static str, &'static str, &'static str);

const LAMBDA: &[Route] = &[
    ("POST", "functions", "", "CreateFunction"),
    ("GET", "functions", "", "ListFunctions"),
    ("GET", "functions/*", "", "GetFunction"),
    ("DELETE", "functions/*", "", "DeleteFunction"),
    ("GET", "functions/*/configuration", "", "GetFunctionConfiguration"),
    ("PUT", "functions/*/configuration", "", "UpdateFunctionConfiguration"),
    ("PUT", "functions/*/code", "", "UpdateFunctionCode"),
    ("POST", "functions/*/invocations", "", "Invoke"),
    ("POST", "functions/*/response-streaming-invocations", "", "InvokeWithResponseStream"),
    ("POST", "functions/*/versions", "", "PublishVersion"),
    ("GET", "functions/*/versions", "", "ListVersionsByFunction"),
    ("POST", "functions/*/aliases", "", "CreateAlias"),
    ("GET", "functions/*/aliases", "", "ListAliases"),
    ("GET", "functions/*/aliases/*", "", "GetAlias"),
    ("PUT", "functions/*/aliases/*", "", "UpdateAlias"),
    ("DELETE", "functions/*/aliases/*", "", "DeleteAlias"),
    ("GET", "functions/*/policy", "", "GetPolicy"),
    ("POST", "functions/*/policy", "", "AddPermission"),
    ("DELETE", "functions/*/policy/*", "", "RemovePermission"),
    ("GET", "functions/*/concurrency", "", "GetFunctionConcurrency"),
    ("PUT", "functions/*/concurrency", "", "PutFunctionConcurrency"),
    ("DELETE", "functions/*/concurrency", "", "DeleteFunctionConcurrency"),
    ("GET", "functions/*/provisioned-concurrency", "List", "ListProvisionedConcurrencyConfigs"),
    ("GET", "functions/*/provisioned-concurrency", "", "GetProvisionedConcurrencyConfig"),
    ("PUT", "functions/*/provisioned-concurrency", "", "PutProvisionedConcurrencyConfig"),
    ("DELETE", "functions/*/provisioned-concurrency", "", "DeleteProvisionedConcurrencyConfig"),
    ("POST", "functions/*/url", "", "CreateFunctionUrlConfig"),
    ("GET", "functions/*/url", "", "GetFunctionUrlConfig"),
    ("PUT", "functions/*/url", "", "UpdateFunctionUrlConfig"),
    ("DELETE", "functions/*/url", "", "DeleteFunctionUrlConfig"),
    ("GET", "functions/*/urls", "", "ListFunctionUrlConfigs"),
    ("GET", "functions/*/event-invoke-config", "", "GetFunctionEventInvokeConfig"),
    ("PUT", "functions/*/event-invoke-config", "", "PutFunctionEventInvokeConfig"),
    ("POST", "functions/*/event-invoke-config", "", "UpdateFunctionEventInvokeConfig"),
    ("DELETE", "functions/*/event-invoke-config", "", "DeleteFunctionEventInvokeConfig"),
    ("GET", "account-settings", "", "GetAccountSettings"),
    ("GET", "tags/*", "", "ListTags"),
    ("POST", "tags/*", "", "TagResource"),
    ("DELETE", "tags/*", "", "UntagResource"),
];

const EFS: &[Route] = &[
    ("POST", "file-systems", "", "CreateFileSystem"),
    ("GET", "file-systems", "", "DescribeFileSystems"),
    ("PUT", "file-systems/*", "", "UpdateFileSystem"),
    ("DELETE", "file-systems/*", "", "DeleteFileSystem"),
    ("GET", "file-systems/*/lifecycle-configuration", "", "DescribeLifecycleConfiguration"),
    ("PUT", "file-systems/*/lifecycle-configuration", "", "PutLifecycleConfiguration"),
    ("GET", "file-systems/*/backup-policy", "", "DescribeBackupPolicy"),
    ("PUT", "file-systems/*/backup-policy", "", "PutBackupPolicy"),
    ("GET", "file-systems/*/policy", "", "DescribeFileSystemPolicy"),
    ("PUT", "file-systems/*/policy", "", "PutFileSystemPolicy"),
    ("DELETE", "file-systems/*/policy", "", "DeleteFileSystemPolicy"),
    ("POST", "mount-targets", "", "CreateMountTarget"),
    ("GET", "mount-targets", "", "DescribeMountTargets"),
    ("DELETE", "mount-targets/*", "", "DeleteMountTarget"),
    ("GET", "mount-targets/*/security-groups", "", "DescribeMountTargetSecurityGroups"),
    ("PUT", "mount-targets/*/security-groups", "", "ModifyMountTargetSecurityGroups"),
    ("POST", "access-points", "", "CreateAccessPoint"),
    ("GET", "access-points", "", "DescribeAccessPoints"),
    ("DELETE", "access-points/*", "", "DeleteAccessPoint"),
    ("GET", "resource-tags/*", "", "ListTagsForResource"),
    ("POST", "resource-tags/*", "", "TagResource"),
    ("DELETE", "resource-tags/*", "", "UntagResource"),
];

/// Paths are empty (service), `*` (bucket) and `*/**` (object): keys have slashes of their own.
const S3: &[Route] = &[
    ("GET", "", "", "ListBuckets"),
    ("GET", "*", "list-type", "ListObjectsV2"),
    ("GET", "*", "location", "GetBucketLocation"),
    ("GET", "*", "notification", "GetBucketNotificationConfiguration"),
    ("PUT", "*", "notification", "PutBucketNotificationConfiguration"),
    ("GET", "*", "versioning", "GetBucketVersioning"),
    ("PUT", "*", "versioning", "PutBucketVersioning"),
    ("GET", "*", "versions", "ListObjectVersions"),
    ("POST", "*", "delete", "DeleteObjects"),
    ("GET", "*", "", "ListObjects"),
    ("PUT", "*", "", "CreateBucket"),
    ("HEAD", "*", "", "HeadBucket"),
    ("DELETE", "*", "", "DeleteBucket"),
    ("GET", "*/**", "attributes", "GetObjectAttributes"),
    ("POST", "*/**", "uploads", "CreateMultipartUpload"),
    ("PUT", "*/**", "uploadId", "UploadPart"),
    ("POST", "*/**", "uploadId", "CompleteMultipartUpload"),
    ("DELETE", "*/**", "uploadId", "AbortMultipartUpload"),
    ("GET", "*/**", "", "GetObject"),
    ("HEAD", "*/**", "", "HeadObject"),
    ("PUT", "*/**", "", "PutObject"),
    ("DELETE", "*/**", "", "DeleteObject"),
];

/// The service that a request is signed for; `None` for what is not an AWS call.
pub(crate) fn service(parts: &Parts) -> Option<String> {
    let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let scope = match header {
        Some(header) => header.split_once("Credential=")?.1.split(',').next()?.to_owned(),
        // A presigned request carries its scope in the query.
        None => percent_decode(query_value(parts.uri.query()?, "X-Amz-Credential")?),
    };
    let name = scope.split('/').nth(3)?;
    Some(match name {
        "elasticfilesystem" => "efs".to_owned(),
        other => other.to_owned(),
    })
}

/// Recognises a call to `service`. `body` is empty where it is streamed.
pub(crate) fn recognise(parts: &Parts, service: &str, body: &Bytes) -> Call {
    let path = parts.uri.path();
    let query = parts.uri.query().unwrap_or_default();
    let text = std::str::from_utf8(body).unwrap_or_default();
    let target = parts.headers.get("x-amz-target").and_then(|value| value.to_str().ok());
    let operation = match (service, target) {
        (_, Some(target)) => target.rsplit('.').next().map(str::to_owned),
        ("lambda", None) => route(LAMBDA, &parts.method, after_version(path), query),
        ("efs", None) => route(EFS, &parts.method, after_version(path), query),
        ("s3", None) => route(S3, &parts.method, path.trim_start_matches('/'), query),
        (_, None) => query_value(text, "Action")
            .or_else(|| query_value(query, "Action"))
            .or_else(|| path.rsplit_once("/operation/").map(|(_, operation)| operation))
            .map(str::to_owned),
    };
    Call {
        service: service.to_owned(),
        operation: operation.unwrap_or_else(|| format!("{} {path}", parts.method)),
        resource: percent_decode(&format!("{path}?{query} {text}")),
    }
}

fn route(routes: &[Route], method: &Method, path: &str, query: &str) -> Option<String> {
    let found = routes.iter().find(|(wanted, pattern, parameter, _)| {
        *wanted == method.as_str()
            && matches(pattern, path)
            && (parameter.is_empty() || has_key(query, parameter))
    });
    found.map(|(.., operation)| (*operation).to_owned())
}

fn matches(pattern: &str, path: &str) -> bool {
    let path = path.trim_end_matches('/');
    if pattern == "*/**" {
        return path.contains('/');
    }
    let (mut wanted, mut found) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some("*"), Some(segment)) if !segment.is_empty() => {}
            (Some(literal), Some(segment)) if literal == segment => {}
            _ => return false,
        }
    }
}

fn after_version(path: &str) -> &str {
    path.trim_start_matches('/').split_once('/').map_or("", |(_, rest)| rest)
}

fn has_key(query: &str, key: &str) -> bool {
    query.split('&').any(|pair| pair.split('=').next() == Some(key))
}

/// The raw value of `key` in a query string or form.
pub(crate) fn query_value<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value)
}

/// Undoes percent-encoding; what is not valid stays as it is.
pub(crate) fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        if let (b'%', Some(byte)) = (first, hex) {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_recognised() {
        let check = |scope: &str, method: &str, uri: &str, body: &'static str, want: (&str, &str)| {
            let (parts, ()) = hyper::Request::builder()
                .method(method)
                .uri(uri)
                .header(
                    AUTHORIZATION,
                    format!(
                        "AWS4-HMAC-SHA256 Credential=k/20260101/eu-west-1/{scope}/aws4_request, Signature=0"
                    ),
                )
                .body(())
                .unwrap()
                .into_parts();
            let service = service(&parts).unwrap();
            let call = recognise(&parts, &service, &Bytes::from_static(body.as_bytes()));
            assert_eq!((call.service.as_str(), call.operation.as_str()), want, "{method} {uri}");
        };
        check(
            "lambda",
            "POST",
            "/2015-03-31/functions/f/invocations?Qualifier=live",
            "",
            ("lambda", "Invoke"),
        );
        check("lambda", "GET", "/2015-03-31/functions/", "", ("lambda", "ListFunctions"));
        let list = "/2019-09-30/functions/f/provisioned-concurrency?List=ALL";
        check("lambda", "GET", list, "", ("lambda", "ListProvisionedConcurrencyConfigs"));
        check("elasticfilesystem", "POST", "/2015-02-01/file-systems", "{}", ("efs", "CreateFileSystem"));
        check("s3", "PUT", "/bucket/a/deep/key?x-id=PutObject", "", ("s3", "PutObject"));
        check("s3", "GET", "/bucket?list-type=2&prefix=a%2F", "", ("s3", "ListObjectsV2"));
        check("s3", "GET", "/bucket/?list-type=2", "", ("s3", "ListObjectsV2"));
        check("ec2", "POST", "/", "Action=DescribeSubnets&Version=2016", ("ec2", "DescribeSubnets"));
        check("s3", "PATCH", "/bucket", "", ("s3", "PATCH /bucket"));
    }
}
