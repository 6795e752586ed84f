//! Subnets and network interfaces.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::Filter;
use larder_core::Class;
use larder_core::observed::Subnet;

use super::clients::Clients;
use super::error::Call;
use crate::cloud::{Page, Result};

impl Clients {
    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSubnets.html>
    pub(super) async fn subnets(&self, ids: &BTreeSet<String>) -> Result<Vec<Subnet>> {
        if ids.is_empty() {
            return Ok(Vec::new()); // no ids would mean all
        }
        let named = |ids: Vec<&str>| Call::new("DescribeSubnets", format!("subnets {}", ids.join(", ")));
        let call = named(ids.iter().map(String::as_str).collect());
        let request = self.ec2.describe_subnets().set_subnet_ids(Some(ids.iter().cloned().collect()));
        let answer = call.answer(request.send().await)?;
        let subnets: Vec<Subnet> = answer
            .subnets
            .unwrap_or_default()
            .into_iter()
            .filter_map(|subnet| {
                Some(Subnet { id: subnet.subnet_id?, zone: subnet.availability_zone?, vpc: subnet.vpc_id? })
            })
            .collect();
        let missing: Vec<&str> =
            ids.iter().map(String::as_str).filter(|id| subnets.iter().all(|s| s.id != *id)).collect();
        if missing.is_empty() {
            Ok(subnets)
        } else {
            let message = format!("not in region {}", self.region);
            Err(named(missing).failed(Class::NotFound, "InvalidSubnetID.NotFound", &message))
        }
    }

    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeNetworkInterfaces.html>
    ///
    /// Lambda describes an interface as `AWS Lambda VPC ENI-<function>-<uuid>`, of the function that needed it first.
    pub(super) async fn interfaces(&self, function: &str, page: Option<String>) -> Result<Page<String>> {
        let call = Call::new("DescribeNetworkInterfaces", format!("interfaces of function {function}"));
        let begin = format!("AWS Lambda VPC ENI-{function}-");
        let filter = Filter::builder().name("description").values(format!("{begin}*")).build();
        let request = self.ec2.describe_network_interfaces().filters(filter).set_next_token(page);
        let answer = call.answer(request.send().await)?;
        let found = answer.network_interfaces.unwrap_or_default().into_iter();
        let found = found.filter(|it| it.description.as_ref().is_some_and(|text| text.starts_with(&begin)));
        let items = found.filter_map(|it| it.network_interface_id).collect();
        Ok(Page { items, next: answer.next_token.filter(|token| !token.is_empty()) })
    }
}
