//! AWS's own S3 transfer manager, with parts as long as ours: `larder-bench-transfer-manager URL BUCKET PREFIX FOLDER`.

use std::path::Path;

use anyhow::{Result, ensure};
use aws_config::BehaviorVersion;
use aws_sdk_s3_transfer_manager::config::S3ClientConfig;
use aws_sdk_s3_transfer_manager::types::PartSize;
use aws_sdk_s3_transfer_manager::{Client, Config};

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, bucket, prefix, folder] = args.as_slice() else {
        anyhow::bail!("write URL BUCKET PREFIX FOLDER")
    };
    let config = aws_config::defaults(BehaviorVersion::latest()).endpoint_url(url).load().await;
    let s3 = aws_sdk_s3::config::Builder::from(&config).force_path_style(true);
    let client = Client::new(
        Config::builder().part_size(PartSize::Target(8 << 20)).s3_config(S3ClientConfig::new(s3)).build(),
    );
    let folder = Path::new(folder);
    std::fs::create_dir_all(folder)?;
    let copy = client.download_objects().bucket(bucket).key_prefix(prefix).destination(folder);
    let copied = copy.initiate()?.join().await?;
    ensure!(copied.failed_transfers().is_empty(), "{copied:?}");
    println!("{}", copied.objects_downloaded());
    Ok(())
}
