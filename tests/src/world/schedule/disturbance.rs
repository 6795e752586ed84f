//! What a user, AWS or fate does next.

use larder_crds::spec::{
    AbortOn, Adoption, AuthType, DriftPolicy, Expose, FunctionUrl, InferenceEndpointSpec, Rollout,
    RolloutStep, SmokeTest, SourceEvents, Strategy,
};
use larder_crds::{PROMOTE, REJECTED_VERSIONS, ROLLOUT_PAUSED};

use super::super::World;
use super::super::example::{BUCKET, SUBNET_A, SUBNET_B, digest, image, object};
use super::super::run::{Run, Stuck};
use super::hand::{BY_HAND, ByHand};

/// What becomes of requests to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Its sandboxes do not start.
    Init,
    /// One request in ten fails.
    Serving,
    /// It is slow.
    Slow,
    /// It answers wrongly.
    Answers,
}

/// What a user, AWS or fate does next.
#[derive(Debug, Clone)]
pub enum Disturbance {
    /// The spec's memory, in MiB.
    Memory(i32),
    /// The spec's image tag.
    ImageTag(&'static str),
    /// The tag is pushed again, with another image.
    Push(String),
    /// An object of the model is put: bytes and `ETag`.
    PutObject(u64, String),
    /// The spec's provisioned concurrency.
    Provisioned(Option<i32>),
    /// The spec's reserved concurrency.
    Reserved(Option<i32>),
    /// The spec's function URL.
    Url(Option<AuthType>),
    /// The spec's history limit.
    History(i32),
    /// The spec's subnets.
    Subnets(Vec<&'static str>),
    /// A second model is added, or taken away.
    SecondModel,
    /// The spec's source events.
    Events(SourceEvents),
    /// The spec's rollout.
    Rollout(Box<Rollout>),
    /// The spec's drift policy.
    DriftPolicy(DriftPolicy),
    /// The spec's adoption.
    Adoption(Adoption),
    /// The rollout is paused, or goes on.
    Paused(bool),
    /// A version is rejected, or none.
    Rejected(Option<u32>),
    /// A version is promoted, or none.
    Promoted(Option<u32>),
    /// An image turns bad.
    Breaks(Flaw, String),
    /// Copies fail with a message, or no longer do.
    CopiesFail(Option<String>),
    /// Running copies die.
    CutCopies,
    /// A complete revision of each folder loses bytes: this one, counted round.
    Damage(usize),
    /// Every controller dies.
    Restart,
    /// The controllers' wall clock jumps, by so many seconds. Time itself goes on as ever.
    Clock(i64),
    /// Somebody changes something in AWS, and asks for a look.
    ByHand(&'static ByHand),
    /// The object is lost, with its status, and made again from Git.
    MadeAgain,
    /// It moves to another namespace, once, and takes its AWS resources along.
    Moved,
}

/// Images that may turn bad.
const IMAGES: [&str; 3] = ["inference 1", "inference 2", "build 0"];

impl Disturbance {
    /// One of them, with its parameters.
    #[must_use]
    pub fn random(rng: &mut fastrand::Rng) -> Self {
        match rng.u32(0..36) {
            0 | 1 => Self::Memory(pick(rng, &[1024, 2048, 4096])),
            2 => Self::ImageTag(pick(rng, &["1", "2"])),
            3 => Self::Push(format!("build {}", rng.u32(0..3))),
            4 | 5 => Self::PutObject(rng.u64(1 << 20..80 << 20), rng.u32(0..3).to_string()),
            6 => Self::Provisioned(pick(rng, &[None, Some(1), Some(2), Some(4)])),
            7 => Self::Reserved(pick(rng, &[None, Some(9), Some(20)])),
            8 => Self::Url(pick(rng, &[None, Some(AuthType::AwsIam), Some(AuthType::None)])),
            9 => Self::History(rng.i32(0..4)),
            10 => Self::Subnets(match rng.u32(0..3) {
                0 => vec![SUBNET_A],
                1 => vec![SUBNET_B],
                _ => vec![SUBNET_A, SUBNET_B],
            }),
            11 => Self::SecondModel,
            12 => Self::Restart,
            13 => Self::CutCopies,
            14 => Self::Damage(rng.usize(0..4)),
            15 => Self::Breaks(Flaw::Init, pick(rng, &IMAGES).to_owned()),
            16 => Self::Events(pick(rng, &[SourceEvents::None, SourceEvents::EventBridge])),
            17 => Self::Rollout(Box::new(rollout(rng))),
            18 => {
                let flaw = pick(rng, &[Flaw::Serving, Flaw::Slow, Flaw::Answers]);
                Self::Breaks(flaw, pick(rng, &IMAGES).to_owned())
            }
            19 => Self::Paused(rng.bool()),
            20 => Self::Rejected(rng.bool().then(|| rng.u32(1..6))),
            21 => Self::Promoted(rng.bool().then(|| rng.u32(1..6))),
            22 => {
                let message = "GetObject of s3://acme-models/ocr/rec.onnx failed";
                Self::CopiesFail(rng.bool().then(|| message.to_owned()))
            }
            23 => Self::DriftPolicy(pick(rng, &[DriftPolicy::Correct, DriftPolicy::Report])),
            24 => Self::Adoption(pick(rng, &[Adoption::Never, Adoption::Adopt])),
            25 => Self::MadeAgain,
            26 => Self::Moved,
            27 | 28 => Self::Clock(pick(rng, &[-86_400, -3600, -90, 90, 3600, 86_400])),
            _ => Self::ByHand(BY_HAND.get(rng.usize(0..BY_HAND.len())).unwrap_or(&BY_HAND[0])),
        }
    }

    /// Once it is over, the user must let Larder take over what bears no tag, or an earlier object's.
    #[must_use]
    #[expect(clippy::wildcard_enum_match_arm, reason = "most of them need none")]
    pub const fn needs_consent(&self) -> bool {
        match self {
            Self::ByHand(by) => by.untags,
            Self::MadeAgain => true,
            _ => false,
        }
    }

    /// It happens.
    ///
    /// # Errors
    /// [`Stuck`] when the object is refused, which none of these is.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest are changes of the spec")]
    pub fn happen(&self, run: &mut Run) -> Result<(), Stuck> {
        match self {
            Self::Paused(is_paused) => return run.annotate(ROLLOUT_PAUSED, is_paused.then_some("true")),
            Self::Rejected(version) => return run.annotate(REJECTED_VERSIONS, number(*version).as_deref()),
            Self::Promoted(version) => return run.annotate(PROMOTE, number(*version).as_deref()),
            Self::Restart => run.restart(),
            Self::Clock(seconds) => run.jump(*seconds),
            Self::PutObject(size, etag) => {
                run.world.put_object(BUCKET, "ocr/rec.onnx", *size, etag);
                return run.ask();
            }
            Self::ByHand(by) => {
                run.world.set_outage(run.world.is_outage() || by.is_outage);
                run.world.meddle(by.happens);
                return run.ask();
            }
            Self::MadeAgain => return run.make_again(),
            Self::Moved => return run.move_to("sight"),
            Self::Push(_) | Self::Breaks(..) | Self::CopiesFail(_) | Self::CutCopies | Self::Damage(_) => {
                self.befall(&run.world);
            }
            _ => return run.change(|spec| self.edit(spec)),
        }
        Ok(())
    }

    /// What happens in AWS.
    #[expect(clippy::wildcard_enum_match_arm, reason = "`happen` sends only these here")]
    fn befall(&self, world: &World) {
        match self {
            Self::Push(build) => world.push_image("larder-inference:1", &digest(build)),
            Self::CutCopies => world.cut_copies(),
            Self::Breaks(flaw, image) => world.meddle(|account| {
                let broken = &mut account.broken;
                let flawed = match flaw {
                    Flaw::Init => &mut broken.init,
                    Flaw::Serving => &mut broken.serving,
                    Flaw::Slow => &mut broken.slow,
                    Flaw::Answers => &mut broken.answers,
                };
                flawed.insert(digest(image));
            }),
            Self::CopiesFail(message) => world.meddle(|account| account.broken.copy.clone_from(message)),
            Self::Damage(nth) => world.meddle(|account| {
                for folder in account.folders.values_mut() {
                    let any = folder.revisions.keys().cycle().nth(*nth).copied();
                    folder.damaged.extend(any);
                }
            }),
            _ => {}
        }
    }

    /// What changes in the spec.
    #[expect(clippy::wildcard_enum_match_arm, reason = "`happen` sends only these here")]
    fn edit(&self, spec: &mut InferenceEndpointSpec) {
        match self {
            Self::Memory(mib) => spec.function.memory_mib = *mib,
            Self::ImageTag(tag) => spec.function.image = Some(image("larder-inference", tag)),
            Self::Provisioned(count) => spec.capacity.provisioned = *count,
            Self::Reserved(count) => spec.capacity.reserved = *count,
            Self::Url(auth) => {
                let url = |auth_type| Expose { function_url: FunctionUrl { auth_type } };
                spec.expose = auth.map(url);
            }
            Self::History(limit) => spec.rollout.history_limit = *limit,
            Self::Subnets(ids) => spec.network.subnet_ids = ids.iter().map(ToString::to_string).collect(),
            Self::SecondModel if spec.models.len() > 1 => spec.models.truncate(1),
            Self::SecondModel => spec.models.extend(object().spec.models.into_iter().map(|mut extra| {
                "extra".clone_into(&mut extra.name);
                if let Some(s3) = &mut extra.source.s3 {
                    "extra/".clone_into(&mut s3.prefix);
                }
                extra
            })),
            Self::Events(events) => {
                for s3 in spec.models.iter_mut().filter_map(|model| model.source.s3.as_mut()).take(1) {
                    s3.events = *events;
                }
            }
            Self::Rollout(rollout) => {
                let history_limit = spec.rollout.history_limit;
                spec.rollout = Rollout { history_limit, ..rollout.as_ref().clone() };
            }
            Self::DriftPolicy(policy) => spec.drift_policy = *policy,
            Self::Adoption(adoption) => spec.adoption = *adoption,
            _ => {}
        }
    }
}

fn number(version: Option<u32>) -> Option<String> {
    version.map(|version| version.to_string())
}

/// One of these; of none, none.
fn pick<T: Copy>(rng: &mut fastrand::Rng, from: &[T]) -> T {
    from[rng.usize(0..from.len())]
}

/// All at once, or in steps that are short, so that a schedule lives to see them.
#[must_use]
pub fn rollout(rng: &mut fastrand::Rng) -> Rollout {
    let mut rollout = Rollout::default();
    let percents: Vec<i32> = [5, 20, 60].into_iter().filter(|_| rng.bool()).collect();
    if !percents.is_empty() {
        rollout.strategy = Strategy::Canary;
        let step = |weight_percent| RolloutStep { weight_percent, hold_seconds: rng.i64(0..20) };
        rollout.steps = percents.into_iter().map(step).collect();
    }
    let abort_on = rng.bool().then(|| AbortOn {
        error_rate_percent: Some(1),
        p99_milliseconds: rng.bool().then_some(1000),
        ..AbortOn::default()
    });
    rollout.abort_on = abort_on.filter(|_| rollout.strategy == Strategy::Canary);
    rollout.smoke_test = rng.bool().then(|| SmokeTest {
        model: "ocr".to_owned(),
        inputs: Some("picture".into()),
        inputs_from: None,
        parameters: None,
        expect: Some(serde_json::json!({"predicted_label": "park"})),
    });
    rollout.prepare_models = rng.bool();
    rollout
}
