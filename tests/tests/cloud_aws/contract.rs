//! The adapter to AWS, on the wire, does what every implementation of the controller's `Cloud` must; and what the emulator
//! does otherwise than AWS.

use larder_tests::contract::ground::OnTheWire;
use larder_tests::contract::hold;
use larder_tests::stack::{FunctionProgram, Options, Stack};

/// What still differs when the proxy has made of the emulator what AWS is.
const WITH_THE_PROXY: &[(&str, &str)] = &[
    ("version::fewer_are_not_reserved_than_are_warm", "PutFunctionConcurrency does not look at what is warm"),
    (
        "version::a_version_that_shares_requests_does_not_become_warm",
        "provisioned concurrency does not look at aliases",
    ),
    ("traffic::an_alias_leads_to_versions_that_are_there", "an alias takes one version as both of its two"),
    ("events::the_name_of_a_deleted_queue_is_taken_for_a_while", "a deleted queue can be made again at once"),
    ("events::a_rule_with_targets_stays", "a rule goes with its targets"),
];

/// What `MiniStack` does otherwise than AWS, by itself.
const BY_ITSELF: &[(&str, &str)] = &[
    ("storage::a_file_system_is_made_once_for_a_token", "a file system is available at once"),
    ("storage::a_file_system_goes_and_goes_again", "a file system is gone at once"),
    ("storage::nothing_is_added_to_a_file_system_that_is_being_made", "a file system is available at once"),
    ("storage::a_mount_target_is_one_of_its_zone", "a mount target is available at once"),
    ("storage::a_mount_target_goes_and_goes_again", "a mount target is gone at once"),
    ("storage::an_access_point_is_made_once_for_a_token", "an access point is available at once"),
    ("storage::an_access_point_goes_and_goes_again", "an access point is gone at once"),
    ("function::a_function_that_is_being_made_takes_no_update", "a pending function takes updates"),
    ("function::settings_change_at_the_revision_that_was_read", "an updated function is in state Pending"),
    ("function::code_changes_at_the_revision_that_was_read", "an image has no CodeSha256"),
    (
        "version::a_version_is_published_at_the_revision_that_was_read",
        "PublishVersion does not look at RevisionId",
    ),
    ("version::sandboxes_become_warm", "provisioned concurrency is READY at once"),
    ("version::no_more_are_warm_than_reserved", "provisioned concurrency does not look at what is reserved"),
    ("version::fewer_are_not_reserved_than_are_warm", "PutFunctionConcurrency does not look at what is warm"),
    (
        "version::a_version_that_shares_requests_does_not_become_warm",
        "provisioned concurrency does not look at aliases",
    ),
    ("traffic::an_alias_leads_to_versions_that_are_there", "an alias takes versions that are not there"),
    ("traffic::alarms_that_are_not_there_are_missed", "DescribeAlarms answers in another protocol"),
    ("events::the_name_of_a_deleted_queue_is_taken_for_a_while", "a deleted queue can be made again at once"),
    ("events::a_rule_with_targets_stays", "a rule goes with its targets"),
];

fn options() -> Options {
    Options::aws().program(FunctionProgram::new("larder", env!("CARGO_BIN_EXE_echo_function")))
}

#[tokio::test]
async fn the_wire_keeps_the_contract() {
    let stack = Stack::start(options()).await.unwrap();
    let ground = OnTheWire::at(&stack.endpoint(), stack.aws()).await.unwrap();
    let found = hold(|| ground.again(), WITH_THE_PROXY).await;
    assert!(found.is_empty(), "{}", found.join("\n"));
    stack.stop().await;
}

#[tokio::test]
async fn the_emulators_differences_are_known() {
    let stack = Stack::start(options()).await.unwrap();
    let ground = OnTheWire::at(&stack.emulator(), stack.aws()).await.unwrap();
    let found = hold(|| ground.again(), BY_ITSELF).await;
    assert!(found.is_empty(), "{}", found.join("\n"));
    stack.stop().await;
}
