//! What the cases stand on: an implementation of the trait, and what is in the account without it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_sdk_s3::types::CreateBucketConfiguration;
use larder::cloud::Cloud;
use larder::cloud::aws::{AwsCloud, Connector, Settings};
use larder_contract::Digest;
use larder_core::endpoint::{ImageRef, Place};
use larder_core::names::ALIAS;
use larder_core::observed::Subnet;
use larder_core::step::Permission;
use serde_json::json;

use crate::stack::{ACCESS_KEY, ACCOUNT, REGION, SECRET_KEY};
use crate::world::account::Statement;
use crate::world::{World, example};

/// What a case stands on.
pub trait Ground: Sync {
    /// The implementation.
    type Cloud: Cloud;

    /// The implementation.
    fn cloud(&self) -> &Self::Cloud;

    /// A name that nothing else has, with this in it.
    fn name(&self, what: &str) -> String;

    /// Two subnets of one VPC in two zones.
    fn subnets(&self) -> &[Subnet];

    /// Security groups of that VPC, three.
    fn security_groups(&self) -> &[String];

    /// A role that functions may have.
    fn role(&self) -> String;

    /// So many objects of a listing need a second page.
    fn more_than_a_page(&self) -> usize;

    /// Something else happens for a moment.
    fn time_passes(&self) -> impl Future<Output = ()> + Send;

    /// Makes a bucket.
    fn make_bucket(&self, name: &str) -> impl Future<Output = Result<()>> + Send;

    /// Puts an object.
    fn put(&self, bucket: &str, key: &str, body: &str) -> impl Future<Output = Result<()>> + Send;

    /// Adds the statement of a permission to the policy of a function's alias, without its condition.
    fn allow_unconditionally(
        &self,
        function: &str,
        permission: Permission,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Pushes an image under a tag; answers what the tag is written as, and the image's digest.
    fn push(&self, tag: &str, build: &str) -> impl Future<Output = Result<(ImageRef, String)>> + Send;
}

/// The world in memory.
#[derive(Debug)]
pub struct InMemory {
    world: World,
    subnets: Vec<Subnet>,
    groups: Vec<String>,
}

impl InMemory {
    /// A world with nothing in it but a network and a role.
    #[must_use]
    pub fn new() -> Self {
        let world = World::new();
        let subnets = world.look(|account| account.subnets.values().cloned().collect());
        let groups = ["a", "b", "c"].map(|it| format!("sg-0000000{it}")).to_vec();
        Self { world, subnets, groups }
    }
}

impl Default for InMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl Ground for InMemory {
    type Cloud = World;

    fn cloud(&self) -> &World {
        &self.world
    }

    fn name(&self, what: &str) -> String {
        format!("larder-{what}")
    }

    fn subnets(&self) -> &[Subnet] {
        &self.subnets
    }

    fn security_groups(&self) -> &[String] {
        &self.groups
    }

    fn role(&self) -> String {
        example::ROLE.to_owned()
    }

    fn more_than_a_page(&self) -> usize {
        3
    }

    async fn time_passes(&self) {
        self.world.advance(Duration::from_secs(1));
    }

    async fn make_bucket(&self, name: &str) -> Result<()> {
        self.world.meddle(|account| account.buckets.entry(name.to_owned()).or_default().clear());
        Ok(())
    }

    async fn put(&self, bucket: &str, key: &str, body: &str) -> Result<()> {
        self.world.put_text(bucket, key, body);
        Ok(())
    }

    async fn allow_unconditionally(&self, function: &str, permission: Permission) -> Result<()> {
        let statement = Statement { condition: None, ..permission.into() };
        self.world.meddle(|account| {
            let alias = account.functions.get_mut(function).and_then(|it| it.alias.as_mut());
            if let Some(alias) = alias {
                alias.statements.insert(permission.statement().to_owned(), statement);
            }
        });
        Ok(())
    }

    async fn push(&self, tag: &str, build: &str) -> Result<(ImageRef, String)> {
        let digest = example::digest(build);
        self.world.push_image(&format!("larder-contract:{tag}"), &digest);
        let image = ImageRef::parse(&example::image("larder-contract", tag)).context("an image")?;
        Ok((image, digest))
    }
}

/// AWS on the wire. Clones are the same account.
#[derive(Debug, Clone)]
pub struct OnTheWire {
    cloud: AwsCloud,
    config: SdkConfig,
    subnets: Vec<Subnet>,
    groups: Vec<String>,
    number: u64,
}

/// Counts grounds, for names.
static NUMBER: AtomicU64 = AtomicU64::new(0);

impl OnTheWire {
    /// What answers at this address, with a repository of images.
    ///
    /// # Errors
    /// When it cannot be made ready.
    pub async fn at(endpoint: &str, config: &SdkConfig) -> Result<Self> {
        let settings = Settings {
            endpoint_url: Some(endpoint.to_owned()),
            calls_per_second: 1000,
            ..Settings::default()
        };
        let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "larder-tests");
        let connector = Connector::with_credentials(settings, credentials).await?;
        let place = Place { region: REGION.to_owned(), role_arn: None, external_id: None };
        let cloud = connector.connect(&place).await?;
        let config = config.to_builder().endpoint_url(endpoint).build();
        let ec2 = aws_sdk_ec2::Client::new(&config);
        let known = ec2.describe_subnets().send().await?.subnets.unwrap_or_default();
        let ids = known.iter().take(2).filter_map(|it| it.subnet_id.clone()).collect();
        let subnets = cloud.subnets(&ids).await?;
        let mut groups = Vec::new();
        for _ in 0..3 {
            let name = format!("contract-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
            let request = ec2.create_security_group().group_name(&name).description(&name);
            groups.extend(request.vpc_id(&subnets[0].vpc).send().await?.group_id);
        }
        let ecr = aws_sdk_ecr::Client::new(&config);
        ecr.create_repository().repository_name("larder-contract").send().await?;
        Ok(Self { cloud, config, subnets, groups, number: 0 })
    }

    /// The same account, for another case.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { number: NUMBER.fetch_add(1, Ordering::Relaxed), ..self.clone() }
    }

    fn s3(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::config::Builder::from(&self.config).force_path_style(true).build();
        aws_sdk_s3::Client::from_conf(config)
    }
}

impl Ground for OnTheWire {
    type Cloud = AwsCloud;

    fn cloud(&self) -> &AwsCloud {
        &self.cloud
    }

    fn name(&self, what: &str) -> String {
        format!("larder-{}-{what}", self.number)
    }

    fn subnets(&self) -> &[Subnet] {
        &self.subnets
    }

    fn security_groups(&self) -> &[String] {
        &self.groups
    }

    fn role(&self) -> String {
        format!("arn:aws:iam::{ACCOUNT}:role/larder")
    }

    fn more_than_a_page(&self) -> usize {
        1001
    }

    async fn time_passes(&self) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    async fn make_bucket(&self, name: &str) -> Result<()> {
        let here = CreateBucketConfiguration::builder().location_constraint(REGION.into()).build();
        self.s3().create_bucket().bucket(name).create_bucket_configuration(here).send().await?;
        Ok(())
    }

    async fn put(&self, bucket: &str, key: &str, body: &str) -> Result<()> {
        let put = self.s3().put_object().bucket(bucket).key(key).body(body.as_bytes().to_vec().into());
        put.send().await?;
        Ok(())
    }

    async fn allow_unconditionally(&self, function: &str, permission: Permission) -> Result<()> {
        let lambda = aws_sdk_lambda::Client::new(&self.config);
        let add = lambda.add_permission().function_name(function).qualifier(ALIAS);
        let add = add.statement_id(permission.statement()).action(permission.action());
        add.principal(if permission.public { "*" } else { ACCOUNT }).send().await?;
        Ok(())
    }

    async fn push(&self, tag: &str, build: &str) -> Result<(ImageRef, String)> {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "size": 2,
                "digest": Digest::of(build.as_bytes()),
            },
            "layers": [],
        });
        let ecr = aws_sdk_ecr::Client::new(&self.config);
        let put = ecr.put_image().repository_name("larder-contract").image_tag(tag);
        let image = put.image_manifest(manifest.to_string()).send().await?.image;
        let digest = image.and_then(|it| it.image_id?.image_digest).context("PutImage tells no digest")?;
        let uri = format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/larder-contract:{tag}");
        Ok((ImageRef::parse(&uri).context("an image")?, digest))
    }
}
