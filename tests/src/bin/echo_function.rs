//! A function for the tests of the function host: says what it is and what it was given.
//!
//! `LARDER_TEST_INIT=exit` in its environment makes it end before it takes an event. An event with
//! `"fail"` makes it fail, with `"exit"` end, with `"sleep"` wait so many milliseconds, and with `"write"`
//! write a file of that name under `LARDER_ROOT`.

use std::path::Path;
use std::time::Duration;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    if std::env::var("LARDER_TEST_INIT").is_ok_and(|wish| wish == "exit") {
        return Err("told to end before the first event".into());
    }
    lambda_runtime::run(service_fn(answer)).await
}

async fn answer(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let (event, context) = event.into_parts();
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    // By URL the wish is in the body.
    let body = event["body"].as_str().and_then(|body| serde_json::from_str(body).ok());
    let wish: &Value = body.as_ref().unwrap_or(&event);
    if let Some(message) = wish["fail"].as_str() {
        return Err(message.to_owned().into());
    }
    if wish["exit"] == true {
        std::process::exit(3);
    }
    if let Some(time) = wish["sleep"].as_u64() {
        tokio::time::sleep(Duration::from_millis(time)).await;
    }
    if let Some(name) = wish["write"].as_str() {
        std::fs::write(Path::new(&variable("LARDER_ROOT")).join(name), context.request_id.as_bytes())?;
    }
    let said = json!({
        "version": variable("AWS_LAMBDA_FUNCTION_VERSION"),
        "greeting": variable("GREETING"),
        "event": event,
        "pid": std::process::id(),
    });
    if event["requestContext"].is_object() {
        return Ok(
            json!({"statusCode": 200, "headers": {"x-echo": "yes"}, "cookies": ["a=b"], "body": said.to_string()}),
        );
    }
    Ok(said)
}
