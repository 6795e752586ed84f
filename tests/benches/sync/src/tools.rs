//! The programs, each set up as its makers advise for speed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::server::{BUCKET, PREFIX};

/// A program that copies a prefix to a folder.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    kind: Kind,
    program: PathBuf,
    dir: PathBuf,
    /// More arguments, of ours.
    pub(crate) args: Vec<String>,
}

#[derive(Debug)]
enum Kind {
    Ours,
    Rclone,
    Boto3 { client: &'static str },
    AwsCli,
    TransferManager,
}

/// Ours first. AWS's transfer manager is there if it was built.
pub(crate) fn all(ours: &Path, python: &Path, transfer: Option<&Path>, dir: &Path) -> Result<Vec<Tool>> {
    let aws = PathBuf::from("/usr/bin/aws");
    let rclone = PathBuf::from("/usr/bin/rclone");
    for program in [ours, python, &aws, &rclone] {
        ensure!(program.exists(), "{} is missing: run tests/benches/sync/setup.sh", program.display());
    }
    // One round trip of settings for the AWS CLI: its transfer client in C, and no fear of the bandwidth.
    let config = "[default]\nregion = us-east-1\ns3 =\n  preferred_transfer_client = crt\n  target_bandwidth = 25Gb/s\n";
    fs::write(dir.join("aws.config"), config)?;
    fs::write(dir.join("fetch.py"), include_str!("../fetch.py"))?;
    let tool = |name, kind, program: &Path| {
        let (program, dir) = (program.to_owned(), dir.to_owned());
        Tool { name, kind, program, dir, args: Vec::new() }
    };
    let mut tools = vec![
        tool("ours", Kind::Ours, ours),
        tool("rclone", Kind::Rclone, &rclone),
        tool("boto3", Kind::Boto3 { client: "classic" }, python),
        tool("boto3-crt", Kind::Boto3 { client: "crt" }, python),
        tool("awscli-crt", Kind::AwsCli, &aws),
    ];
    tools.extend(transfer.map(|program| tool("aws-s3-tm", Kind::TransferManager, program)));
    Ok(tools)
}

/// Ours with other settings, written `MIBxPARTS`: the length of parts, and how many are fetched at once.
pub(crate) fn variant(ours: &Path, written: &str, dir: &Path) -> Result<Tool> {
    let (mib, parts) = written.split_once('x').context("write a variant as MIBxPARTS, such as 8x16")?;
    let args = ["--part-mib", mib, "--parts", parts].map(str::to_owned).to_vec();
    // A few names, for as long as the program runs.
    let name = Box::leak(written.to_owned().into_boxed_str());
    Ok(Tool { name, kind: Kind::Ours, program: ours.to_owned(), dir: dir.to_owned(), args })
}

impl Tool {
    /// What it printed.
    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join(format!("{}.log", self.name))
    }

    pub(crate) fn command(&self, url: &str, to: &Path, one_processor: bool) -> Command {
        let mut command =
            Command::new(if one_processor { Path::new("/usr/bin/taskset") } else { &self.program });
        if one_processor {
            command.args(["--cpu-list", "0"]).arg(&self.program);
        }
        command.env_clear().envs([
            ("PATH", "/usr/bin:/bin"),
            ("HOME", "/nonexistent"),
            ("AWS_ACCESS_KEY_ID", "bench"),
            ("AWS_SECRET_ACCESS_KEY", "bench"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]);
        command.env("AWS_CONFIG_FILE", self.dir.join("aws.config"));
        let from = format!("s3://{BUCKET}/{PREFIX}");
        match self.kind {
            Kind::Ours => {
                command.arg("copy").arg(from).arg(to).args(["--endpoint-url", url, "--json"]);
                command.args(&self.args);
            }
            Kind::Rclone => {
                command.args(["copy", "--config", "/dev/null", "--transfers", "16", "--checkers", "16"]);
                command.args(["--multi-thread-streams", "8", "--use-server-modtime", "--no-check-dest"]);
                command.args(["--s3-provider", "Other", "--s3-env-auth", "--s3-endpoint", url]);
                command.args([
                    "--s3-force-path-style",
                    "--s3-no-head-object",
                    "--s3-list-version",
                    "2",
                    "--fast-list",
                ]);
                command.arg(format!(":s3:{BUCKET}/{PREFIX}")).arg(to);
            }
            Kind::Boto3 { client } => {
                command.arg(self.dir.join("fetch.py")).args([client, url, BUCKET, PREFIX]).arg(to);
            }
            Kind::TransferManager => {
                command.args([url, BUCKET, PREFIX]).arg(to);
            }
            Kind::AwsCli => {
                command.args(["s3", "cp", "--recursive", "--no-progress", "--only-show-errors"]);
                command.args(["--endpoint-url", url]).arg(from).arg(to);
            }
        }
        command
    }

    /// Where the files are afterwards.
    pub(crate) fn files_in(&self, to: &Path) -> Result<PathBuf> {
        match self.kind {
            Kind::Ours => {
                let mut all = fs::read_dir(to.join("revisions"))?.filter_map(Result::ok);
                let folder = all.find(|entry| entry.path().is_dir()).context("no revision")?;
                Ok(folder.path())
            }
            Kind::Rclone | Kind::Boto3 { .. } | Kind::AwsCli | Kind::TransferManager => Ok(to.to_owned()),
        }
    }
}
