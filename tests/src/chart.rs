//! The Helm chart `charts/larder`, rendered and installed by the real Helm, and its Lua run by the interpreter that
//! Argo CD has.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize as _;
use serde_json::Value;

use crate::scenario::repository;
use crate::stack::process::fed;
use crate::stack::tools::chart_tools;

/// How long one run of a program may take.
const WITHIN: Duration = Duration::from_mins(2);

/// The chart, and what reads it.
#[derive(Debug)]
pub struct Chart {
    tools: PathBuf,
    home: tempfile::TempDir,
}

impl Chart {
    /// Finds Helm and glua.
    ///
    /// # Errors
    /// When they are not there.
    pub fn find() -> Result<Self> {
        let home = tempfile::tempdir().context("a temporary folder cannot be made")?;
        Ok(Self { tools: chart_tools()?, home })
    }

    /// The chart's folder.
    #[must_use]
    pub fn folder() -> PathBuf {
        repository().join("charts/larder")
    }

    /// What the release `larder` in namespace `larder-system` consists of with these values.
    ///
    /// # Errors
    /// When Helm refuses, with what it says.
    pub async fn template(&self, values: &Value) -> Result<Vec<Value>> {
        let chart = Self::folder().display().to_string();
        let args = ["template", "larder", &chart, "--namespace", "larder-system"];
        let text = self.helm(&args, Some(values), None).await?;
        let documents = serde_yaml::Deserializer::from_str(&text);
        let objects: std::result::Result<Vec<Value>, _> = documents.map(Value::deserialize).collect();
        let objects = objects.with_context(|| format!("what Helm prints is no YAML: {text}"))?;
        Ok(objects.into_iter().filter(|it| !it.is_null()).collect())
    }

    /// Runs Helm, with values, in the cluster of a kubeconfig; gives what it prints.
    ///
    /// # Errors
    /// When it fails, with what it says.
    pub async fn helm(
        &self,
        args: &[&str],
        values: Option<&Value>,
        kubeconfig: Option<&Path>,
    ) -> Result<String> {
        let mut args: Vec<String> = args.iter().map(|&it| it.to_owned()).collect();
        if values.is_some() {
            args.extend(["--values".to_owned(), "-".to_owned()]);
        }
        if let Some(path) = kubeconfig {
            args.extend(["--kubeconfig".to_owned(), path.display().to_string()]);
        }
        let values = values.map(Value::to_string).unwrap_or_default();
        self.run("helm", &args, &values).await
    }

    /// The health that Argo CD would show of an object: its status and message.
    ///
    /// # Errors
    /// When the script fails, with what Lua says.
    pub async fn health(&self, object: &Value) -> Result<(String, String)> {
        let script = Self::folder().join("argocd/health.lua");
        let text = std::fs::read_to_string(&script).with_context(|| script.display().to_string())?;
        let object = in_lua(object);
        let program = format!(
            "local obj = {object}\nlocal function health()\n{text}\nend\nlocal found = health()\n\
             print(found.status)\nprint(found.message)\n"
        );
        let file = self.home.path().join("health.lua");
        std::fs::write(&file, program).with_context(|| file.display().to_string())?;
        let said = self.run("glua", &[file.display().to_string()], "").await?;
        let (status, message) = said.trim_end().split_once('\n').with_context(|| said.clone())?;
        Ok((status.to_owned(), message.to_owned()))
    }

    async fn run(&self, program: &str, args: &[String], input: &str) -> Result<String> {
        let home = [("HOME", self.home.path())];
        let output = fed(&self.tools.join(program), args, &home, input, WITHIN).await;
        let output = output.with_context(|| format!("{program} cannot be run, or does not end"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} {}: {}", args.join(" "), said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// A value as Lua writes it. What JSON calls null is not there in a table of Argo CD's either.
fn in_lua(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Bool(it) => it.to_string(),
        Value::Number(it) => it.to_string(),
        Value::String(it) => quoted(it),
        Value::Array(items) => format!("{{{}}}", items.iter().map(in_lua).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, it)| format!("[{}] = {}", quoted(name), in_lua(it)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Every byte that is no letter or digit by its number.
fn quoted(text: &str) -> String {
    let byte = |it: u8| match it {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(it).to_string(),
        _ => format!("\\{it:03}"),
    };
    format!("\"{}\"", text.bytes().map(byte).collect::<String>())
}
