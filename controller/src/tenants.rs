//! What Namespaces allow: their annotations, as a watch brings them, so that no pass asks for them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use larder_core::Endpoint;
use larder_core::tenants::{RoleNotAllowed, RolePolicy, check};
use larder_crds::ALLOWED_ROLES;
use tokio_util::sync::CancellationToken;

use crate::wake::Wakes;

/// How long the first list may take.
const LISTED_WITHIN: Duration = Duration::from_secs(30);

/// Which namespaces may use which roles.
#[derive(Debug, Default)]
pub struct Tenants(Option<Store<PartialObjectMeta<Namespace>>>);

impl Tenants {
    /// By `policy`. Namespaces are watched where it depends on them, and endpoints looked at again when one of them
    /// changes what it allows. `namespace` is the only one that matters, when there is such.
    ///
    /// # Errors
    /// When Namespaces cannot be listed within 30 seconds.
    pub async fn new(
        policy: RolePolicy,
        kube: &Client,
        namespace: Option<&str>,
        wakes: &Arc<Wakes>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        match policy {
            RolePolicy::Any => return Ok(Self::default()),
            RolePolicy::Annotated => {}
        }
        let (store, writer) = reflector::store();
        let config = match namespace {
            Some(name) => watcher::Config::default().fields(&format!("metadata.name={name}")),
            None => watcher::Config::default(),
        };
        let api: Api<PartialObjectMeta<Namespace>> = Api::all(kube.clone());
        let changes =
            watcher(api, config).default_backoff().modify(lighten).reflect(writer).touched_objects();
        let (wakes, stop) = (Arc::clone(wakes), stop.clone());
        tokio::spawn(async move {
            let work = changes.for_each(|change| {
                match change {
                    Ok(_) => wakes.ring(),
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "Namespaces cannot be watched: allow list and watch of them");
                    }
                }
                futures::future::ready(())
            });
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
        let listed = tokio::time::timeout(LISTED_WITHIN, store.wait_until_ready()).await;
        listed
            .map_err(|_| anyhow!("no list in {} s", LISTED_WITHIN.as_secs()))
            .and_then(|ended| ended.map_err(Into::into))
            .context(
                "Namespaces cannot be watched: allow list and watch of them, or write --role-policy any",
            )?;
        Ok(Self(Some(store)))
    }

    /// Looks whether an endpoint may use its roles.
    ///
    /// # Errors
    /// The first role that it may not use.
    pub fn check(&self, endpoint: &Endpoint) -> Result<(), RoleNotAllowed> {
        let Some(store) = &self.0 else { return check(RolePolicy::Any, endpoint, None) };
        let namespace = store.get(&ObjectRef::new(&endpoint.identity.namespace));
        let allowed = namespace.as_ref().and_then(|it| it.annotations().get(ALLOWED_ROLES));
        check(RolePolicy::Annotated, endpoint, allowed.map(String::as_str))
    }
}

/// Leaves what is asked for.
fn lighten(namespace: &mut PartialObjectMeta<Namespace>) {
    namespace.metadata.managed_fields = None;
    namespace.metadata.labels = None;
    if let Some(annotations) = &mut namespace.metadata.annotations {
        annotations.retain(|name, _| name == ALLOWED_ROLES);
    }
}
