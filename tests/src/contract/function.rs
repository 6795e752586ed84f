//! AWS Lambda's functions.

use anyhow::{Context as _, Result, ensure};
use larder::cloud::Cloud as _;
use larder_contract::source::S3Prefix;
use larder_contract::sync::{SyncRequest, SyncSource};
use larder_contract::{Digest, Manifest, ModelSource};
use larder_core::endpoint::Architecture;
use larder_core::names::Owner;
use larder_core::observed::{Code, Function, FunctionConfig, LastUpdate, Package, Remote, Start};
use larder_core::step::Tagged;
use larder_core::{Class, Step};

use super::ground::Ground;
use super::storage::{file_system, point, target};
use super::{all, done, done_twice, eventually, other, owner, refused};

/// Settings without a file system: those of a function that anyone may make.
pub(super) fn config<G: Ground>(ground: &G, memory_mib: i32) -> FunctionConfig {
    FunctionConfig {
        role: ground.role(),
        memory_mib,
        timeout_seconds: 20,
        ephemeral_mib: 1024,
        env: [("GREETING".to_owned(), "hello".to_owned())].into(),
        subnets: [ground.subnets()[0].id.clone()].into(),
        security_groups: [ground.security_groups()[0].clone()].into(),
        mount: None,
        start: Start::default(),
    }
}

fn code(build: &str) -> Code {
    let digest = Digest::of(build.as_bytes()).to_string();
    let uri = format!("111122223333.dkr.ecr.eu-west-1.amazonaws.com/larder-inference@{digest}");
    Code { package: Package::Image { uri }, digest }
}

fn create<G: Ground>(ground: &G) -> Step {
    Step::CreateFunction {
        name: ground.name("f"),
        owner: owner(),
        code: code("1"),
        architecture: Architecture::Arm64,
        config: config(ground, 512),
    }
}

async fn seen<G: Ground>(ground: &G, owner: &Owner) -> Result<Remote<Function>> {
    Ok(ground.cloud().function(&ground.name("f"), owner).await?)
}

/// The function, once it is ready and its last update is done.
pub(super) async fn settled<G: Ground>(ground: &G) -> Result<Function> {
    eventually(ground, "the function is settled", async || {
        let found = seen(ground, &owner()).await?;
        Ok(found.ready().filter(|it| it.last_update == LastUpdate::Successful).cloned())
    })
    .await
}

/// A function that can be used.
pub(super) async fn function<G: Ground>(ground: &G) -> Result<Function> {
    done(ground, create(ground)).await?;
    settled(ground).await
}

/// A change of its settings.
pub(super) fn configure<G: Ground>(ground: &G, memory_mib: i32, revision_id: &str) -> Step {
    Step::UpdateFunctionConfiguration {
        name: ground.name("f"),
        config: config(ground, memory_mib),
        changes: Vec::new(),
        revision_id: revision_id.to_owned(),
    }
}

fn recode<G: Ground>(ground: &G, revision_id: &str) -> Step {
    Step::UpdateFunctionCode {
        name: ground.name("f"),
        code: code("2"),
        architecture: Architecture::X86_64,
        revision_id: revision_id.to_owned(),
    }
}

pub(super) async fn a_function_is_made_once<G: Ground>(ground: &G) -> Result<()> {
    ensure!(seen(ground, &owner()).await? == Remote::Absent, "before it is made");
    done(ground, create(ground)).await?;
    let pending = seen(ground, &owner()).await?;
    ensure!(matches!(pending, Remote::Pending(_)), "it is being made: {pending:?}");
    refused(ground.cloud().perform(&create(ground)).await, Class::Conflict, "while it is being made")?;
    let made = settled(ground).await?;
    refused(ground.cloud().perform(&create(ground)).await, Class::Conflict, "when it is there")?;
    ensure!(made.name == ground.name("f") && made.arn.ends_with(&made.name), "{made:?}");
    ensure!(made.config == config(ground, 512), "{made:?}");
    ensure!((made.code_digest, made.architecture) == (code("1").digest, Architecture::Arm64), "its code");
    ensure!(
        made.reserved.is_none() && !made.revision_id.is_empty(),
        "{:?} {}",
        made.reserved,
        made.revision_id
    );
    Ok(())
}

pub(super) async fn a_function_is_told_by_its_owner_tag<G: Ground>(ground: &G) -> Result<()> {
    let made = function(ground).await?;
    let theirs = seen(ground, &other()).await?;
    ensure!(matches!(&theirs, Remote::Foreign { owner: it, .. } if *it == owner().0), "{theirs:?}");
    // The world knows a function by its name, AWS by its ARN; both are ids.
    let Remote::Foreign { id, .. } = theirs else { anyhow::bail!("it is foreign") };
    let (tagged, resource, from) = (Tagged::Function, made.name, owner().0);
    done_twice(ground, Step::TagResource { tagged, id, resource, from, owner: other() }).await?;
    ensure!(seen(ground, &other()).await?.ready().is_some(), "taken over");
    let ours = seen(ground, &owner()).await?;
    ensure!(matches!(&ours, Remote::Foreign { owner: it, .. } if *it == other().0), "{ours:?}");
    Ok(())
}

pub(super) async fn a_function_that_is_being_made_takes_no_update<G: Ground>(ground: &G) -> Result<()> {
    done(ground, create(ground)).await?;
    let Remote::Pending(it) = seen(ground, &owner()).await? else { anyhow::bail!("it is ready at once") };
    let update = configure(ground, 1024, &it.revision_id);
    refused(ground.cloud().perform(&update).await, Class::Conflict, "settings")?;
    let update = recode(ground, &it.revision_id);
    refused(ground.cloud().perform(&update).await, Class::Conflict, "code")
}

pub(super) async fn settings_change_at_the_revision_that_was_read<G: Ground>(ground: &G) -> Result<()> {
    let made = function(ground).await?;
    refused(
        ground.cloud().perform(&configure(ground, 1024, "stale")).await,
        Class::Conflict,
        "another revision",
    )?;
    done(ground, configure(ground, 1024, &made.revision_id)).await?;
    let busy = seen(ground, &owner()).await?.ready().context("it is there")?.clone();
    ensure!(busy.last_update == LastUpdate::InProgress, "{busy:?}");
    let again = configure(ground, 2048, &busy.revision_id);
    refused(ground.cloud().perform(&again).await, Class::Conflict, "while an update is in progress")?;
    let changed = settled(ground).await?;
    ensure!(changed.config == config(ground, 1024), "{changed:?}");
    ensure!(changed.revision_id != made.revision_id, "{}", changed.revision_id);
    let stale = configure(ground, 2048, &made.revision_id);
    refused(ground.cloud().perform(&stale).await, Class::Conflict, "the revision before")
}

pub(super) async fn code_changes_at_the_revision_that_was_read<G: Ground>(ground: &G) -> Result<()> {
    let made = function(ground).await?;
    refused(ground.cloud().perform(&recode(ground, "stale")).await, Class::Conflict, "another revision")?;
    done(ground, recode(ground, &made.revision_id)).await?;
    let changed = settled(ground).await?;
    let found = (changed.code_digest.clone(), changed.architecture, changed.config.clone());
    ensure!(found == (code("2").digest, Architecture::X86_64, made.config), "{changed:?}");
    ensure!(changed.code_sha256 != made.code_sha256, "{}", changed.code_sha256);
    refused(
        ground.cloud().perform(&recode(ground, &made.revision_id)).await,
        Class::Conflict,
        "the revision before",
    )
}

pub(super) async fn a_mount_is_read_back<G: Ground>(ground: &G) -> Result<()> {
    let file_system = file_system(ground).await?.id;
    target(ground, &file_system).await?;
    let arn = point(ground, &file_system, "ap").await?.arn;
    let made = function(ground).await?;
    let mut config = config(ground, 512);
    config.mount = Some((arn, "/mnt/larder".to_owned()));
    let step = Step::UpdateFunctionConfiguration {
        name: ground.name("f"),
        config: config.clone(),
        changes: Vec::new(),
        revision_id: made.revision_id,
    };
    done(ground, step).await?;
    let changed = settled(ground).await?;
    ensure!(changed.config == config, "{changed:?}");
    done(ground, configure(ground, 512, &changed.revision_id)).await?;
    let changed = settled(ground).await?;
    ensure!(changed.config.mount.is_none(), "{changed:?}");
    Ok(())
}

pub(super) async fn what_is_not_there_takes_no_change<G: Ground>(ground: &G) -> Result<()> {
    let name = ground.name("f");
    for step in [
        configure(ground, 512, "r"),
        recode(ground, "r"),
        Step::PutFunctionConcurrency { name: name.clone(), reserved: 1 },
        Step::PublishVersion { name: name.clone(), code_sha256: "x".to_owned(), revision_id: "r".to_owned() },
        Step::CreateAlias { function: name.clone(), version: 1, description: String::new() },
        Step::CreateFunctionUrl { function: name.clone(), auth_type: "NONE" },
    ] {
        refused(ground.cloud().perform(&step).await, Class::NotFound, step.operation())?;
    }
    ensure!(
        all(async |page| ground.cloud().version_numbers(&name, page).await).await?.is_empty(),
        "no versions"
    );
    ensure!(ground.cloud().version(&name, 1, &owner()).await? == Remote::Absent, "no version");
    ensure!(ground.cloud().alias(&name).await?.is_none(), "no alias");
    ensure!(ground.cloud().serving(&name).await?.is_none(), "nothing serves");
    ensure!(ground.cloud().function_url(&name).await?.is_none(), "no URL");
    ensure!(ground.cloud().permissions(&name).await?.is_empty(), "no permissions");
    ensure!(ground.cloud().provisioned(&name, 1).await?.is_none(), "no provisioned concurrency");
    ensure!(
        all(async |page| ground.cloud().interfaces(&name, page).await).await?.is_empty(),
        "no interfaces"
    );
    Ok(())
}

pub(super) async fn reserved_concurrency_is_set_and_taken_away<G: Ground>(ground: &G) -> Result<()> {
    let name = function(ground).await?.name;
    done_twice(ground, Step::PutFunctionConcurrency { name: name.clone(), reserved: 5 }).await?;
    let found = settled(ground).await?.reserved;
    ensure!(found == Some(5), "{found:?}");
    done_twice(ground, Step::DeleteFunctionConcurrency { name }).await?;
    let found = settled(ground).await?.reserved;
    ensure!(found.is_none(), "{found:?}");
    Ok(())
}

pub(super) async fn what_is_not_there_answers_nobody<G: Ground>(ground: &G) -> Result<()> {
    let name = ground.name("f");
    let place = S3Prefix { bucket: "models".to_owned(), prefix: "ocr/".to_owned() };
    let request = SyncRequest {
        manifest: Manifest::new(Vec::new()),
        sources: vec![SyncSource { model: "ocr".to_owned(), source: ModelSource::S3(place) }],
        worker: None,
    };
    refused(ground.cloud().sync_status(&name, &request).await, Class::NotFound, "a question")?;
    refused(ground.cloud().inventory(&name).await, Class::NotFound, "an inventory")?;
    refused(ground.cloud().ask(&name, 1, b"{}".to_vec()).await, Class::NotFound, "a version")?;
    let prepare = Step::PrepareModels { function: name.clone(), version: 1 };
    refused(ground.cloud().perform(&prepare).await, Class::NotFound, "preparing")?;
    let start = Step::StartSync { function: name, request };
    refused(ground.cloud().perform(&start).await, Class::NotFound, "a copy")
}

pub(super) async fn a_function_goes_and_goes_again<G: Ground>(ground: &G) -> Result<()> {
    let name = function(ground).await?.name;
    done_twice(ground, Step::DeleteFunction { name }).await?;
    ensure!(seen(ground, &owner()).await? == Remote::Absent, "it is gone");
    Ok(())
}
