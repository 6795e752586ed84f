//! From an SDK's error to a [`CloudError`]: the only place where retry classes are decided.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_lambda::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_lambda::operation::RequestId as _;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use larder_core::{Class, Problem};

use crate::cloud::{CloudError, Result};
use crate::metrics::called;

/// The most characters of a text of others that an error repeats.
const MAX_MESSAGE: usize = 1000;

/// A call that is about to be made: the API operation, and the resource in words.
#[derive(Debug, Clone)]
pub(super) struct Call {
    operation: &'static str,
    resource: String,
}

impl Call {
    pub(super) fn new(operation: &'static str, resource: impl Into<String>) -> Self {
        Self { operation, resource: resource.into() }
    }

    /// A failure that no error of the SDK tells.
    pub(super) fn failed(&self, class: Class, code: &str, message: &str) -> CloudError {
        CloudError::new(self.operation, &self.resource, class, code, &shortened(message))
    }

    /// An answer that lacks what the API promises.
    pub(super) fn lacks(&self, what: &str) -> CloudError {
        self.failed(Class::Transient, "", &format!("the answer has no {what}"))
    }

    /// The answer, or the failure with its class.
    pub(super) fn answer<T, E>(&self, answer: std::result::Result<T, SdkError<E>>) -> Result<T>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let answer = answer.map_err(|error| self.explain(error));
        let class = answer.as_ref().err().map(|error| error.problem.class);
        called(std::any::type_name::<E>(), self.operation, class);
        answer
    }

    /// The answer, or none when the thing is not there.
    pub(super) fn found<T, E>(&self, answer: std::result::Result<T, SdkError<E>>) -> Result<Option<T>>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        some(self.answer(answer))
    }

    fn explain<E>(&self, error: SdkError<E>) -> CloudError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let request_id = error.request_id().map(str::to_owned);
        let (class, code, message) = if let Some(refusal) = error.as_service_error() {
            let code = refusal.code().unwrap_or_default();
            let message = refusal.message().unwrap_or_default();
            let status = error.raw_response().map_or(0, |response| response.status().as_u16());
            let message = match (code, message) {
                ("", "") => format!("HTTP status {status}"),
                (_, message) => message.to_owned(),
            };
            (classify(code, status, &message), code.to_owned(), message)
        } else if let Some(refused) = refused_credentials(&error) {
            refused
        } else {
            // Without a request there was nothing that AWS could have answered: the input is at fault.
            let built = !matches!(error, SdkError::ConstructionFailure(_));
            (if built { Class::Transient } else { Class::Invalid }, String::new(), chain(&error))
        };
        CloudError {
            problem: Problem {
                operation: self.operation,
                resource: self.resource.clone(),
                class,
                code,
                message: shortened(&message),
                request_id,
            },
            // Not the whole error: its debug text holds the raw response.
            source: error.into_source().ok(),
        }
    }
}

/// None instead of an error that says that the thing is not there.
pub(super) fn some<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(it) => Ok(Some(it)),
        Err(error) if error.problem.class == Class::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn shortened(message: &str) -> String {
    match message.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

/// The texts of an error and its sources, without repetition.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    for error in sources(error) {
        let text = error.to_string();
        if !texts.last().is_some_and(|last| last.ends_with(&text)) {
            texts.push(text);
        }
    }
    texts.join(": ")
}

fn sources<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

/// Class, code and message when there were no credentials to sign the call with.
fn refused_credentials(error: &(dyn Error + 'static)) -> Option<(Class, String, String)> {
    let credentials = sources(error).find_map(|error| error.downcast_ref::<CredentialsError>())?;
    for error in sources(credentials) {
        let refusal =
            assumed::<AssumeRoleError>(error).or_else(|| assumed::<AssumeRoleWithWebIdentityError>(error));
        if let Some((class, code, message)) = refusal {
            return Some((class, code, format!("the role cannot be assumed: {message}")));
        }
    }
    let missing = matches!(
        credentials,
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)
    );
    let class = if missing { Class::Denied } else { Class::Transient };
    Some((class, String::new(), format!("no AWS credentials: {}", chain(credentials))))
}

fn assumed<E>(error: &(dyn Error + 'static)) -> Option<(Class, String, String)>
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let error = error.downcast_ref::<SdkError<E>>()?;
    let refusal = error.as_service_error()?;
    let (code, message) = (refusal.code().unwrap_or_default(), refusal.message().unwrap_or_default());
    let status = error.raw_response().map_or(0, |response| response.status().as_u16());
    Some((classify(code, status, message), code.to_owned(), message.to_owned()))
}

/// The texts with which Lambda refuses what it will accept once IAM, EC2, EFS or KMS have caught up.
const NOT_YET: [&str; 7] = [
    "cannot be assumed",
    "CreateNetworkInterface",
    "throttled by EC2",
    "CreateGrant",
    "KMS grant",
    "mount targets",
    "life cycle state",
];

/// The codes of failures behind Lambda that a later call may not meet.
const LATER: [&str; 9] = [
    // A queue's name is free again a minute after its deletion.
    "QueueDeletedRecently",
    "EFSMountConnectivityException",
    "EFSMountFailureException",
    "EFSMountTimeoutException",
    "EFSIOException",
    "EC2ThrottledException",
    "EC2UnexpectedException",
    "ResourceNotReadyException",
    "RequestTimeout",
];

const THROTTLED: [&str; 6] = [
    "TooManyRequestsException",
    "SlowDown",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "ProvisionedThroughputExceeded",
    "PriorRequestNotComplete",
];

const DENIED: [&str; 13] = [
    "AccessDenied",
    "UnauthorizedOperation",
    "NotAuthorized",
    "AuthFailure",
    "ExpiredToken",
    "RequestExpired",
    "UnrecognizedClient",
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidSignature",
    "MissingAuthenticationToken",
    "OptInRequired",
];

const QUOTA: [&str; 8] = [
    "LimitExceeded",
    "LimitReached",
    "QuotaExceeded",
    "CodeStorageExceeded",
    "PolicyLengthExceeded",
    "NoFreeAddressesInSubnet",
    "InsufficientFreeAddressesInSubnet",
    "TooManyFileSystems",
];

const NOT_FOUND: [&str; 7] = [
    "NotFound",
    "NoSuchBucket",
    "NoSuchKey",
    "NoSuchVersion",
    "NoSuchEntity",
    "NonExistentQueue",
    "QueueDoesNotExist",
];

const CONFLICT: [&str; 14] = [
    "QueueNameExists",
    "ResourceConflict",
    "ResourceInUse",
    "PreconditionFailed",
    "AlreadyExist",
    "MountTargetConflict",
    "IncorrectFileSystemLifeCycleState",
    "IncorrectMountTargetState",
    "FileSystemInUse",
    "IpAddressInUse",
    "OperationAborted",
    "ConditionalRequestConflict",
    "ConcurrentModification",
    "DependentServiceConflict",
];

/// What kind of failure an answer of AWS tells. The code decides; the status only where it is unknown.
fn classify(code: &str, status: u16, message: &str) -> Class {
    let code_has = |parts: &[&str]| parts.iter().any(|part| code.contains(part));
    let says = |parts: &[&str]| parts.iter().any(|part| message.contains(part));
    if code.starts_with("InvalidParameterValue") {
        if says(&["UnreservedConcurrentExecution"]) {
            return Class::Quota;
        }
        if message.contains("CodeSHA256") && message.contains("different") {
            return Class::Conflict;
        }
        if says(&NOT_YET) {
            return Class::Transient;
        }
    }
    if code == "TooManyRequests" {
        // EFS: the throughput was changed less than 24 hours ago.
        Class::Cooldown
    } else if code_has(&LATER) {
        Class::Transient
    } else if code_has(&THROTTLED) || code.contains("Throttl") {
        Class::Throttled
    } else if code_has(&DENIED) {
        Class::Denied
    } else if code_has(&QUOTA) {
        Class::Quota
    } else if code_has(&CONFLICT) {
        Class::Conflict
    } else if code_has(&NOT_FOUND) {
        Class::NotFound
    } else {
        match status {
            429 => Class::Throttled,
            401 | 403 => Class::Denied,
            404 => Class::NotFound,
            409 | 412 => Class::Conflict,
            408 => Class::Transient,
            300..=499 => Class::Invalid,
            // AWS is at fault, or a success cannot be read.
            _ => Class::Transient,
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_lambda::config::http::HttpResponse;
    use aws_sdk_lambda::error::ErrorMetadata;
    use aws_sdk_lambda::operation::create_function::CreateFunctionError;
    use aws_smithy_types::body::SdkBody;

    use super::*;

    fn check(code: &str, status: u16, message: &str, class: Class) {
        assert_eq!(classify(code, status, message), class, "{code} {status} {message}");
    }

    #[test]
    fn codes_and_statuses_have_their_classes() {
        for (code, status, class) in [
            ("ThrottlingException", 400, Class::Throttled),
            ("Throttling", 400, Class::Throttled),
            ("TooManyRequestsException", 429, Class::Throttled),
            ("TooManyRequests", 429, Class::Cooldown),
            ("RequestLimitExceeded", 503, Class::Throttled),
            ("SlowDown", 503, Class::Throttled),
            ("", 429, Class::Throttled),
            ("AccessDeniedException", 403, Class::Denied),
            ("AccessDenied", 403, Class::Denied),
            ("UnauthorizedOperation", 403, Class::Denied),
            ("ExpiredTokenException", 400, Class::Denied),
            ("UnrecognizedClientException", 403, Class::Denied),
            ("InvalidClientTokenId", 403, Class::Denied),
            ("SignatureDoesNotMatch", 403, Class::Denied),
            ("", 403, Class::Denied),
            ("ResourceNotFoundException", 404, Class::NotFound),
            ("FileSystemNotFound", 404, Class::NotFound),
            ("SubnetNotFound", 400, Class::NotFound),
            ("InvalidSubnetID.NotFound", 400, Class::NotFound),
            ("RepositoryNotFoundException", 400, Class::NotFound),
            ("NoSuchBucket", 404, Class::NotFound),
            ("ProvisionedConcurrencyConfigNotFoundException", 404, Class::NotFound),
            ("NotFound", 404, Class::NotFound),
            ("QueueDoesNotExist", 400, Class::NotFound),
            ("AWS.SimpleQueueService.NonExistentQueue", 400, Class::NotFound),
            ("AWS.SimpleQueueService.QueueDeletedRecently", 400, Class::Transient),
            ("QueueNameExists", 400, Class::Conflict),
            ("", 404, Class::NotFound),
            ("ResourceConflictException", 409, Class::Conflict),
            ("ResourceInUseException", 400, Class::Conflict),
            ("PreconditionFailedException", 412, Class::Conflict),
            ("FileSystemAlreadyExists", 409, Class::Conflict),
            ("ResourceAlreadyExistsException", 400, Class::Conflict),
            ("MountTargetConflict", 409, Class::Conflict),
            ("IncorrectFileSystemLifeCycleState", 409, Class::Conflict),
            ("FileSystemInUse", 409, Class::Conflict),
            ("", 412, Class::Conflict),
            ("FileSystemLimitExceeded", 403, Class::Quota),
            ("AccessPointLimitExceeded", 403, Class::Quota),
            ("NetworkInterfaceLimitExceeded", 409, Class::Quota),
            ("CodeStorageExceededException", 400, Class::Quota),
            ("PolicyLengthExceededException", 400, Class::Quota),
            ("ENILimitReachedException", 502, Class::Quota),
            ("NoFreeAddressesInSubnet", 409, Class::Quota),
            ("EFSMountFailureException", 403, Class::Transient),
            ("EFSMountConnectivityException", 408, Class::Transient),
            ("EC2ThrottledException", 502, Class::Transient),
            ("ServiceException", 500, Class::Transient),
            ("InternalServerError", 500, Class::Transient),
            ("", 502, Class::Transient),
            ("", 200, Class::Transient),
            ("ValidationException", 400, Class::Invalid),
            ("InvalidParameterValueException", 400, Class::Invalid),
            ("PermanentRedirect", 301, Class::Invalid),
            ("", 413, Class::Invalid),
        ] {
            check(code, status, "", class);
        }
    }

    #[test]
    fn what_lambda_refuses_for_now_is_not_invalid() {
        for (message, class) in [
            ("The role defined for the function cannot be assumed by Lambda.", Class::Transient),
            (
                "The provided execution role does not have permissions to call CreateNetworkInterface on EC2",
                Class::Transient,
            ),
            (
                "Your request has been throttled by EC2, please make sure you have enough API rate limit.",
                Class::Transient,
            ),
            (
                "Lambda was unable to configure access to your environment variables because the KMS key is invalid for CreateGrant.",
                Class::Transient,
            ),
            ("EFS file system fs-1 has no mount targets in state available", Class::Transient),
            (
                "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [10].",
                Class::Quota,
            ),
            ("CodeSHA256 (a) is different from current CodeSHA256 in $LATEST (b).", Class::Conflict),
            ("Unzipped size must be smaller than 262144000 bytes", Class::Invalid),
        ] {
            check("InvalidParameterValueException", 400, message, class);
        }
    }

    fn response(status: u16, request_id: Option<&'static str>) -> HttpResponse {
        let mut response = HttpResponse::new(status.try_into().unwrap(), SdkBody::from("SECRET=1"));
        if let Some(id) = request_id {
            response.headers_mut().insert("x-amzn-requestid", id);
        }
        response
    }

    #[test]
    fn an_error_says_what_happened_to_what_and_holds_no_payload() {
        let call = Call::new("CreateFunction", "function larder-x");
        let refusal = ErrorMetadata::builder().code("ResourceConflictException").message("busy").build();
        let error = call.explain(SdkError::service_error(
            CreateFunctionError::generic(refusal),
            response(409, Some("r-1")),
        ));
        let problem = &error.problem;
        assert_eq!((problem.class, problem.code.as_str()), (Class::Conflict, "ResourceConflictException"));
        assert_eq!(problem.request_id.as_deref(), Some("r-1"));
        assert_eq!(
            error.to_string(),
            "CreateFunction of function larder-x failed: ResourceConflictException: busy (request id r-1); \
             Larder looks again and goes on"
        );
        assert!(!format!("{error:?}").contains("SECRET"), "{error:?}");
    }

    #[test]
    fn without_an_answer_the_call_may_have_taken_effect() {
        let call = Call::new("CreateFunction", "function larder-x");
        let timed_out = SdkError::<CreateFunctionError>::timeout_error("too slow");
        assert_eq!(call.explain(timed_out).problem.class, Class::Transient);
        let unreadable = SdkError::<CreateFunctionError>::response_error("no JSON", response(200, None));
        assert_eq!(call.explain(unreadable).problem.class, Class::Transient);
        let unbuilt = SdkError::<CreateFunctionError>::construction_failure("no name");
        assert_eq!(call.explain(unbuilt).problem.class, Class::Invalid);
    }

    #[test]
    fn refused_credentials_are_told_as_such() {
        let call = Call::new("GetFunction", "function larder-x");
        let refusal = ErrorMetadata::builder().code("AccessDenied").message("not you").build();
        let refused: SdkError<AssumeRoleError> =
            SdkError::service_error(AssumeRoleError::generic(refusal), response(403, None));
        for (credentials, class, code, message) in [
            (
                CredentialsError::provider_error(refused),
                Class::Denied,
                "AccessDenied",
                "the role cannot be assumed: not you",
            ),
            (CredentialsError::not_loaded("none"), Class::Denied, "", "no AWS credentials"),
            (CredentialsError::provider_error("reset"), Class::Transient, "", "no AWS credentials"),
        ] {
            let failure = aws_sdk_lambda::error::ConnectorError::other(credentials.into(), None);
            let problem = call.explain(SdkError::<CreateFunctionError>::dispatch_failure(failure)).problem;
            assert_eq!((problem.class, problem.code.as_str()), (class, code), "{problem}");
            assert!(problem.message.starts_with(message), "{problem}");
        }
    }
}
