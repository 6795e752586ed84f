//! What people see of endpoints, and what tenants may do, on the stack: a real API server, the real controller, AWS
//! on the wire.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail at once")]

use std::time::Duration;

use larder_crds::InferenceEndpoint;
use larder_tests::demo::is_ready_at;
use larder_tests::scenario::{BUCKET, NAMESPACE, Ocr, Scenario, condition, small_endpoint};
use larder_tests::stack::{ACCOUNT, Fault, Rule, Timings, When};
use serde_json::{Value, json};

/// A small endpoint that works as the role of this name, without a URL.
fn object(name: &str, role: &str) -> Value {
    let mut object = small_endpoint(name);
    let spec = &mut object["spec"];
    spec["aws"] = json!({"roleArn": format!("arn:aws:iam::{ACCOUNT}:role/{role}"), "externalId": "acme"});
    spec["models"][0]["source"]["s3"]["prefix"] = json!("det/");
    spec["function"]["roleArn"] = json!(format!("arn:aws:iam::{ACCOUNT}:role/serving"));
    spec.as_object_mut().unwrap().remove("expose");
    object
}

#[tokio::test]
async fn tenants_use_their_roles_and_hold_each_other_up_in_nothing() {
    let scenario = Scenario::start(Timings::default()).await.unwrap();
    scenario.upload_det(BUCKET, "det/", Ocr::V4).await.unwrap();
    // Roles that never answer, more of their endpoints than there are passes at once.
    let hangs = Fault::Latency(Duration::from_mins(2));
    scenario.stack.inject(Rule::new("sts", "AssumeRole", When::Always, hangs).on("hung"));
    let args = ["--role-policy", "annotated", "--concurrency", "6"];
    let controller = scenario.controller("larder", &args).await.unwrap();

    // Refused, with what to write; nothing is done as the role.
    scenario.apply(&object("sound", "larder-sound")).await.unwrap();
    let is_refused = |e: &InferenceEndpoint| {
        condition(e, "Accepted").is_some_and(|(status, reason, message)| {
            status == "False"
                && reason == "RoleNotAllowed"
                && ["namespace vision", "role/larder-sound", "larder.dev/allowed-roles"]
                    .iter()
                    .all(|part| message.contains(part))
        })
    };
    let refused = scenario.until("sound", "to be refused", 20, is_refused).await.unwrap();
    assert!(condition(&refused, "Stalled").is_some() && refused.metadata.finalizers.is_none());
    assert_eq!(scenario.stack.count("sts", "AssumeRole"), 0);
    let (code, text) = scenario.larder(&["explain", "sound", "-n", NAMESPACE, "--offline"]).await.unwrap();
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("├─ Accepted") || text.contains("└─ Accepted"), "{text}");
    assert!(text.contains("✗ RoleNotAllowed: namespace vision may not use"), "{text}");

    for n in 0..12 {
        scenario.apply(&object(&format!("hung-{n}"), &format!("hung-{}", n % 6))).await.unwrap();
    }
    // Allowed: the watch of Namespaces brings it at once.
    let allowed = format!("larder.dev/allowed-roles=arn:aws:iam::{ACCOUNT}:role/*");
    scenario.kubectl(&["annotate", "namespace", NAMESPACE, &allowed]).await.unwrap();
    // Before any of the roles has answered.
    scenario.until("sound", "to be ready", 60, |e| is_ready_at(e, "1")).await.unwrap();
    // A role that does not answer is said, within its bound.
    let is_said =
        |e: &InferenceEndpoint| condition(e, "Ready").is_some_and(|(_, reason, _)| reason == "Unavailable");
    scenario.until("hung-0", "to say it", 60, is_said).await.unwrap();
    let (code, text) = scenario.larder(&["explain", "hung-0", "-n", NAMESPACE, "--offline"]).await.unwrap();
    assert_eq!(code, 2, "{text}");
    let line = text.lines().find(|line| line.contains("✗ Unavailable: AssumeRole of ")).unwrap_or_default();
    assert!(line.contains("─ Ready") && line.ends_with("  AssumeRole"), "{text}");

    seen(&scenario, controller.health).await;
    controller.stop().await;
    scenario.stack.stop().await;
}

/// `larder explain`, `/metrics`, `larder plan` of a folder, and an address that is taken.
async fn seen(scenario: &Scenario, address: std::net::SocketAddr) {
    let (code, text) = scenario.larder(&["explain", "sound", "-n", NAMESPACE]).await.unwrap();
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("InferenceEndpoint vision/sound: ready\n") && text.contains("✓ fs-"), "{text}");
    let (code, text) =
        scenario.larder(&["explain", "sound", "-n", NAMESPACE, "--offline", "-o", "json"]).await.unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, all[0]["ready"].as_bool()), (0, Some(true)), "{text}");
    assert_eq!(all[0]["conditions"][0]["calls"][0], "DescribeFileSystems", "{text}");
    let (code, text) = scenario.larder(&["explain", "nobody", "-n", NAMESPACE]).await.unwrap();
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("no InferenceEndpoint vision/nobody"), "{text}");

    let text = scenario.get(&format!("http://{address}/metrics")).await.unwrap();
    for start in [
        r#"larder_aws_calls_total{service="efs",operation="CreateFileSystem",class="OK"} 1"#,
        r#"larder_endpoints{ready="True",reason="Converged"} 1"#,
        r#"larder_endpoints{ready="False",reason="Unavailable"} "#,
        r#"larder_passes_total{outcome="ready"} "#,
        r#"larder_passes_total{outcome="unreachable"} "#,
        "larder_pass_seconds_count ",
    ] {
        assert!(text.lines().any(|line| line.starts_with(start)), "no {start}: {text}");
    }
    let copied = text.lines().find_map(|line| line.strip_prefix("larder_copied_bytes_total ")).unwrap();
    assert!(copied.parse::<u64>().unwrap() > 1_000_000, "{copied}");

    let events = scenario.kubectl(&["get", "events", "-n", NAMESPACE]).await.unwrap();
    assert!(
        events.contains("Copied") && !events.lines().any(|e| e.contains("Warning") && e.contains("Settling")),
        "{events}"
    );

    // A folder: one that is as wanted, one that is new, one that is refused, and something else.
    let folder = scenario.stack.dir().join("manifests");
    tokio::fs::create_dir_all(folder.join("more")).await.unwrap();
    let mut refused = object("refused", "larder-sound");
    refused["spec"]["function"]["memoryMiB"] = json!(1);
    let write = async |name: &str, text: String| tokio::fs::write(folder.join(name), text).await.unwrap();
    write("all.yaml", format!("{}\n---\n{{kind: ConfigMap}}\n", object("sound", "larder-sound"))).await;
    write("more/new.json", object("new", "larder-sound").to_string()).await;
    let (code, text) = scenario.plan(&folder, &["-o", "markdown"]).await.unwrap();
    assert_eq!(code, 2, "{text}");
    assert!(text.starts_with("**Larder plan** of 2 endpoints: "), "{text}");
    for part in [
        "## InferenceEndpoint vision/sound\n\nNothing to do",
        "## InferenceEndpoint vision/new\n\n",
        "\n```diff\n@@ StorageReady @@\n+ create file system",
    ] {
        assert!(text.contains(part), "no {part}: {text}");
    }
    write("refused.yml", refused.to_string()).await;
    let (code, text) = scenario.plan(&folder, &[]).await.unwrap();
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("memoryMiB") && text.contains("Nothing to do"), "{text}");

    // The address is taken: it ends at once, and says why.
    let taken = address.to_string();
    let (code, text) = scenario.larder(&["run", "--listen", &taken]).await.unwrap();
    assert_eq!(code, 1, "{text}");
    assert!(text.contains(&taken) && text.contains("--listen"), "{text}");
}
