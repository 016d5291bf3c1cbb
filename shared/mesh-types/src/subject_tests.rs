//! Tests of the subjects.

use super::*;
use proptest::prelude::*;

fn token() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_-]{1,64}"
}

fn subject() -> impl Strategy<Value = Subject> {
    let t = || token().prop_map(|t| t.parse::<Token>().unwrap());
    prop_oneof![
        Just(Subject::RouterInvoke),
        (t(), t()).prop_map(|(a, b)| Subject::Invoke {
            tenant: a.into(),
            agent: b.into()
        }),
        (t(), t()).prop_map(|(a, b)| Subject::Call {
            tenant: a.into(),
            agent: b.into()
        }),
        (t(), t()).prop_map(|(service, endpoint)| Subject::Service { service, endpoint }),
        (t(), t()).prop_map(|(instance, command)| Subject::Execution { instance, command }),
        any::<u16>().prop_map(|shard| Subject::JournalMark { shard }),
        (t(), any::<u128>()).prop_map(|(a, i)| Subject::Tokens {
            tenant: a.into(),
            invocation: InvocationId::from_u128(i)
        }),
        (t(), t(), t(), t()).prop_map(|(a, kind, id, verb)| Subject::Event {
            tenant: a.into(),
            kind,
            id,
            verb
        }),
        (t(), t()).prop_map(|(a, origin)| Subject::Dead {
            tenant: a.into(),
            origin
        }),
        (t(), t(), t()).prop_map(|(n, service, endpoint)| Subject::NodeService {
            node: n.into(),
            service,
            endpoint
        }),
        t().prop_map(|n| Subject::Bell { node: n.into() }),
        t().prop_map(|server| Subject::KickConnection { server }),
        (t(), token(), token()).prop_map(|(a, x, y)| Subject::Reply {
            tenant: a.into(),
            rest: format!("{x}.{y}")
        }),
        token().prop_map(|rest| Subject::Inbox { rest }),
    ]
}

proptest! {
    #[test]
    fn display_and_from_str_are_inverses(subject in subject()) {
        prop_assert_eq!(subject.to_string().parse::<Subject>().unwrap(), subject);
    }

    #[test]
    fn a_subject_has_one_spelling(text in ".{0,80}") {
        if let Ok(subject) = text.parse::<Subject>() {
            prop_assert_eq!(subject.to_string(), text);
        }
    }
}

#[test]
fn wildcards_and_strangers_are_refused() {
    for text in [
        "mesh.invoke.*.sofia",
        "mesh.invoke.default.>",
        "mesh.invoke.default",
        "$JS.API.INFO",
        "mesh",
        "mesh.invoke.default.agent:sofia",
        "mesh.journal._shard.007",
        "_INBOX.",
        "_INBOX.a..b",
        "_INBOX.>",
        "",
    ] {
        assert!(text.parse::<Subject>().is_err(), "{text}");
    }
}

#[test]
fn a_node_is_answered_in_an_inbox_only() {
    let asked_at = "mesh.node.kitchen.reconciler.assignment";
    assert!(may_answer(asked_at, "_INBOX.kitchen.1"));
    for forged in [
        "$KV.ASSIGNMENTS.node.cellar",
        "mesh.heartbeat.cellar",
        "mesh.invoke.other.sofia",
        "",
    ] {
        assert!(!may_answer(asked_at, forged), "{forged}");
    }
    assert!(may_answer("mesh.svc.registry.node-get", "mesh.reply.daarion.x"));
    let called = "mesh.call.daarion.sofia";
    assert!(may_answer(called, "_INBOX.x") && may_answer(called, "mesh.reply.daarion.x"));
    for forged in [
        "mesh.reply.other.x",
        "mesh.reply.daarion",
        "$KV.AGENTS.other.sofia",
        "mesh.event.daarion.a.b.c",
    ] {
        assert!(!may_answer(called, forged), "{forged}");
    }
}

#[test]
fn a_reply_goes_to_an_inbox_or_the_tenants_own_subjects() {
    let tenant: Tenant = "daarion".parse().unwrap();
    assert!(parse_reply_to("_INBOX.abc.1", &tenant).is_ok());
    assert!(parse_reply_to("mesh.reply.daarion.x.y", &tenant).is_ok());
    assert!(parse_reply_to("mesh.reply.other.x", &tenant).is_err());
    assert!(parse_reply_to("mesh.event.daarion.agent.x.deleted", &tenant).is_err());
    assert!(parse_reply_to("$JS.API.STREAM.DELETE.INVOCATIONS", &tenant).is_err());
}
