//! EC2, ECR, S3, STS and CloudWatch Logs.

use serde_json::{Value, json};

use super::{Answer, Ask, Region};

/// Subnets whose id ends with b are in the second zone.
pub(super) fn zone(subnet: &str) -> &'static str {
    if subnet.ends_with('b') { "eu-west-1b" } else { "eu-west-1a" }
}

impl Region {
    pub(super) fn others(&mut self, operation: &str, ask: &Ask) -> Answer {
        match operation {
            "GetCallerIdentity" => Answer::xml(
                "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
                 <GetCallerIdentityResult><Arn>arn:aws:iam::111122223333:user/bench</Arn>\
                 <UserId>bench</UserId><Account>111122223333</Account></GetCallerIdentityResult>\
                 </GetCallerIdentityResponse>"
                    .to_owned(),
            ),
            "DescribeSubnets" => {
                let mut ids: Vec<&String> = ask
                    .query
                    .iter()
                    .filter(|(key, _)| key.starts_with("SubnetId."))
                    .map(|(_, id)| id)
                    .collect();
                ids.sort();
                let item = |id: &String| {
                    format!(
                        "<item><subnetId>{id}</subnetId><availabilityZone>{}</availabilityZone>\
                         <vpcId>vpc-1</vpcId></item>",
                        zone(id)
                    )
                };
                Answer::xml(format!(
                    "<DescribeSubnetsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
                     <subnetSet>{}</subnetSet></DescribeSubnetsResponse>",
                    ids.into_iter().map(item).collect::<String>()
                ))
            }
            "DescribeImages" => {
                let digest = larder_contract::Digest::of(ask.text("repositoryName").as_bytes());
                Answer::json(&json!({"imageDetails": [{"imageDigest": digest.to_string()}]}))
            }
            "ListObjectsV2" => {
                let prefix = ask.query("prefix");
                Answer::xml(format!(
                    "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>models</Name>\
                     <Prefix>{prefix}</Prefix><KeyCount>1</KeyCount><MaxKeys>1000</MaxKeys>\
                     <IsTruncated>false</IsTruncated><Contents><Key>{prefix}model.onnx</Key>\
                     <LastModified>2024-01-01T00:00:00.000Z</LastModified>\
                     <ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>1000000</Size>\
                     <StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>"
                ))
            }
            "CreateLogGroup" => {
                let name = ask.text("logGroupName").to_owned();
                self.log_groups.insert(name, (ask.body["tags"].clone(), None));
                Answer::json(&json!({}))
            }
            "PutRetentionPolicy" => {
                if let Some((_, days)) = self.log_groups.get_mut(ask.text("logGroupName")) {
                    *days = ask.body["retentionInDays"].as_i64();
                }
                Answer::json(&json!({}))
            }
            "DescribeLogGroups" => {
                let prefix = ask.text("logGroupNamePrefix");
                let from = self.log_groups.range(prefix.to_owned()..);
                let found = from.take_while(|(name, _)| name.starts_with(prefix)).take(50);
                let all: Vec<Value> = found
                    .map(|(name, (_, days))| {
                        json!({"logGroupName": name, "logGroupArn": arn(name), "retentionInDays": days})
                    })
                    .collect();
                Answer::json(&json!({"logGroups": all}))
            }
            "ListTagsForResource" => {
                let name = ask.text("resourceArn").rsplit("log-group:").next().unwrap_or_default();
                match self.log_groups.get(name) {
                    Some((tags, _)) => Answer::json(&json!({"tags": tags})),
                    None => Answer::refusal(400, "ResourceNotFoundException", "no such log group"),
                }
            }
            _ => Answer::refusal(400, "UnknownOperationException", &ask.operation),
        }
    }
}

fn arn(group: &str) -> String {
    format!("arn:aws:logs:eu-west-1:111122223333:log-group:{group}")
}
