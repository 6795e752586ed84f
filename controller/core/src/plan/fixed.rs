//! What EFS fixes when a thing is made. What differs in it is told, for people to decide: another file system would be
//! empty, and another access point would be another user.

use super::{Plan, Reason};
use crate::endpoint::AccessPointSpec;
use crate::observed::{AccessPoint, FileSystem};
use crate::retry::Class;

fn differs(message: String) -> Plan {
    Plan::blocked(Reason::FileSystemFailed, Class::Invalid, message)
}

/// Whether a file system is encrypted as is wanted.
pub(super) fn is_encrypted_so(encrypted: bool, key: Option<&str>, it: &FileSystem) -> Result<(), Plan> {
    const REMEDY: &str = "make a new InferenceEndpoint and delete this one, or bring the file system with storage.efs.fileSystemId";
    if it.is_encrypted != encrypted {
        let (is, be) = if it.is_encrypted { ("is", "false") } else { ("is not", "true") };
        return Err(differs(format!(
            "file system {} {is} encrypted, spec.storage.efs.managed.encrypted is {be}, and AWS changes neither: {REMEDY}",
            it.id
        )));
    }
    match (key, &it.kms_key_id) {
        (Some(want), Some(have)) if is_another_key(want, have) => Err(differs(format!(
            "file system {} is encrypted with {have}, spec.storage.efs.managed.kmsKeyId is {want}, and AWS changes neither: {REMEDY}",
            it.id
        ))),
        (Some(_) | None, _) => Ok(()),
    }
}

/// Whether a key, as the spec names it, is known not to be that of this ARN. Which key an alias stands for is not known.
fn is_another_key(want: &str, have: &str) -> bool {
    let id = |key: &str| key.rsplit('/').next().unwrap_or(key).to_owned();
    if want.starts_with("alias/") || want.contains(":alias/") {
        return false;
    }
    if want.starts_with("arn:") && have.starts_with("arn:") { want != have } else { id(want) != id(have) }
}

/// Whether an access point is as it would be made.
pub(super) fn is_as_made(spec: &AccessPointSpec, it: &AccessPoint) -> Result<(), Plan> {
    let wanted = AccessPoint::of(spec, it.id.clone(), it.arn.clone());
    let told: Vec<String> = fields(it)
        .into_iter()
        .zip(fields(&wanted))
        .filter(|((_, have), (_, want))| have != want)
        .map(|((field, have), (_, want))| format!("{field} is {have}, should be {want}"))
        .collect();
    if told.is_empty() {
        return Ok(());
    }
    Err(differs(format!(
        "access point {}: {}; AWS changes none of it: delete the access point, and Larder makes another, while the data stays and belongs to whom it belongs; or make a new InferenceEndpoint whose spec.storage.efs.accessPoint says what is there",
        it.id,
        told.join("; ")
    )))
}

/// Its fields in words.
fn fields(it: &AccessPoint) -> Vec<(&'static str, String)> {
    let none = || "not set".to_owned();
    let user = it.user.as_ref();
    let groups = user.map_or_else(Vec::new, |it| it.secondary_gids.iter().map(i64::to_string).collect());
    let creation = it.creation.as_ref().map_or_else(none, |it| {
        let permissions = u32::from_str_radix(&it.permissions, 8);
        let permissions = permissions.map_or_else(|_| it.permissions.clone(), |bits| format!("{bits:04o}"));
        format!("{}:{} {permissions}", it.owner_uid, it.owner_gid)
    });
    vec![
        ("path", it.path.clone()),
        ("uid", user.map_or_else(none, |it| it.uid.to_string())),
        ("gid", user.map_or_else(none, |it| it.gid.to_string())),
        ("secondary groups", if groups.is_empty() { "none".to_owned() } else { groups.join(",") }),
        ("owner and permissions of a new folder", creation),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_another_one_only_where_that_is_known() {
        const ARN: &str = "arn:aws:kms:eu-west-1:111122223333:key/1234";
        for (want, is_another) in [
            (ARN, false),
            ("1234", false),
            ("alias/models", false),
            ("arn:aws:kms:eu-west-1:111122223333:alias/models", false),
            ("5678", true),
            ("arn:aws:kms:eu-west-1:444455556666:key/1234", true),
        ] {
            assert_eq!(is_another_key(want, ARN), is_another, "{want}");
        }
    }

    #[test]
    fn what_a_file_system_is_encrypted_with_is_told() {
        const ARN: &str = "arn:aws:kms:eu-west-1:111122223333:key/1234";
        let made = |is_encrypted, key: Option<&str>| FileSystem {
            id: "fs-1".to_owned(),
            throughput_mode: "elastic".to_owned(),
            is_encrypted,
            burst_credits: None,
            kms_key_id: key.map(str::to_owned),
        };
        for (wanted, key, it, told) in [
            (true, None, made(true, Some(ARN)), None),
            (true, Some("1234"), made(true, Some(ARN)), None),
            (true, Some("alias/models"), made(true, Some(ARN)), None),
            (true, Some("5678"), made(true, Some(ARN)), Some("kmsKeyId is 5678")),
            (true, Some("5678"), made(true, None), None),
            (false, None, made(false, None), None),
            (
                false,
                None,
                made(true, Some(ARN)),
                Some("fs-1 is encrypted, spec.storage.efs.managed.encrypted is false"),
            ),
            (
                true,
                None,
                made(false, None),
                Some("fs-1 is not encrypted, spec.storage.efs.managed.encrypted is true"),
            ),
        ] {
            let plan = is_encrypted_so(wanted, key, &it).err();
            let message = match &plan {
                Some(Plan::Blocked { message, .. }) => Some(message.as_str()),
                other => {
                    assert_eq!(*other, None);
                    None
                }
            };
            assert_eq!(message.is_some(), told.is_some(), "{message:?}");
            assert!(message.zip(told).is_none_or(|(message, told)| message.contains(told)), "{message:?}");
        }
    }

    type Change = fn(&mut AccessPoint);

    #[test]
    fn every_field_of_an_access_point_is_told() {
        let spec = AccessPointSpec {
            path: "/larder/a".to_owned(),
            uid: 1000,
            gid: 1000,
            permissions: "0750".to_owned(),
        };
        let made = || AccessPoint::of(&spec, "fsap-1".to_owned(), "arn".to_owned());
        let short = AccessPointSpec { permissions: "750".to_owned(), ..spec.clone() };
        assert_eq!(is_as_made(&short, &made()), Ok(()), "permissions are a number");
        let changes: [(Change, &str); 7] = [
            (|it| "/".clone_into(&mut it.path), "path is /, should be /larder/a"),
            (|it| it.user.as_mut().unwrap().uid = 0, "uid is 0, should be 1000"),
            (|it| it.user.as_mut().unwrap().gid = 0, "gid is 0, should be 1000"),
            (|it| it.user = None, "uid is not set, should be 1000; gid is not set, should be 1000"),
            (
                |it| it.user.as_mut().unwrap().secondary_gids = [5, 6].into(),
                "secondary groups is 5,6, should be none",
            ),
            (
                |it| "0777".clone_into(&mut it.creation.as_mut().unwrap().permissions),
                "owner and permissions of a new folder is 1000:1000 0777, should be 1000:1000 0750",
            ),
            (|it| it.creation = None, "of a new folder is not set, should be 1000:1000 0750"),
        ];
        for (change, told) in changes {
            let mut it = made();
            change(&mut it);
            let Err(Plan::Blocked { message, .. }) = is_as_made(&spec, &it) else { panic!("{told}") };
            assert!(message.contains("access point fsap-1") && message.contains(told), "{message}");
        }
    }
}
