//! Answers kept for the same question, where the configuration has room for them and the request asks for it. A key is
//! all that the answer depends on, and the tenant: tenants never share. The least recently used goes first.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_api::inference::{CompleteRequest, Completion};
use mesh_types::Tenant;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::config::CacheRules;

/// What is kept beside the texts of one answer, roughly, in bytes.
const ENTRY_BYTES: usize = 512;

/// Which questions are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Question([u8; 32]);

impl Question {
    /// `None`: the request does not ask for a kept answer.
    pub(crate) fn of(tenant: &Tenant, request: &CompleteRequest) -> Option<Self> {
        if !request.cache {
            return None;
        }
        let asked = json!([
            tenant,
            request.model,
            request.fallbacks,
            request.messages,
            request.tools,
            request.temperature,
            request.max_tokens,
            request.response_schema,
            request.metadata.get(crate::mock::SCRIPT_METADATA),
        ]);
        Some(Self(Sha256::digest(asked.to_string()).into()))
    }
}

struct Kept {
    until: Instant,
    bytes: usize,
    used: u64,
    completion: Arc<Completion>,
}

#[derive(Default)]
struct Entries {
    by_question: HashMap<Question, Kept>,
    by_use: BTreeMap<u64, Question>,
    uses: u64,
    bytes: usize,
}

pub(crate) struct Cache {
    rules: CacheRules,
    entries: Mutex<Entries>,
}

impl Cache {
    pub(crate) fn new(rules: CacheRules) -> Self {
        Self {
            rules,
            entries: Mutex::default(),
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.rules.entries > 0
    }

    /// The kept answer as the caller is to get it: nothing was asked, nothing was paid.
    pub(crate) fn find(&self, question: &Question, now: Instant) -> Option<Completion> {
        let mut entries = self.lock();
        let kept = entries.by_question.get(question)?;
        if kept.until <= now {
            entries.forget(question);
            return None;
        }
        let completion = Arc::clone(&kept.completion);
        entries.touch(question);
        drop(entries);
        Some(Completion {
            usage: mesh_api::journal::Usage::default(),
            usage_estimated: false,
            cached_tokens: 0,
            attempt: 1,
            from_cache: true,
            ..Completion::clone(&completion)
        })
    }

    /// Keeps an answer that is worth it.
    pub(crate) fn keep(&self, question: Question, request: &CompleteRequest, completion: &Completion, now: Instant) {
        if !is_worth_keeping(request, completion) {
            return;
        }
        let calls = completion.tool_calls.iter().map(|call| call.to_string().len());
        let bytes = ENTRY_BYTES + completion.text.len() + calls.sum::<usize>();
        if bytes > self.rules.bytes || !self.is_on() {
            return;
        }
        let mut entries = self.lock();
        entries.forget(&question);
        entries.uses += 1;
        let kept = Kept {
            until: now + Duration::from_secs(self.rules.ttl_seconds),
            bytes,
            used: entries.uses,
            completion: Arc::new(completion.clone()),
        };
        entries.by_use.insert(kept.used, question);
        entries.by_question.insert(question, kept);
        entries.bytes += bytes;
        while entries.by_question.len() > self.rules.entries || entries.bytes > self.rules.bytes {
            let Some((_, oldest)) = entries.by_use.first_key_value() else {
                break;
            };
            let oldest = *oldest;
            entries.forget(&oldest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn touch(&mut self, question: &Question) {
        self.uses += 1;
        if let Some(kept) = self.by_question.get_mut(question) {
            self.by_use.remove(&kept.used);
            kept.used = self.uses;
            self.by_use.insert(kept.used, *question);
        }
    }

    fn forget(&mut self, question: &Question) {
        if let Some(kept) = self.by_question.remove(question) {
            self.by_use.remove(&kept.used);
            self.bytes -= kept.bytes;
        }
    }
}

/// Only whole answers of the model that was asked for: a fallback's would outlive the failure that it stood in for. Calls
/// of tools only where the model was told to be the same each time, for they act.
fn is_worth_keeping(request: &CompleteRequest, completion: &Completion) -> bool {
    let is_whole = matches!(completion.finish_reason.as_str(), "stop" | "tool_calls");
    let is_steady = request
        .temperature
        .is_some_and(|temperature| temperature.abs() < f64::EPSILON);
    is_whole
        && !completion.from_cache
        && completion.failed.is_empty()
        && completion.model == request.model
        && (completion.tool_calls.is_empty() || is_steady)
}

#[cfg(test)]
mod tests {
    use mesh_api::journal::Usage;

    use super::*;

    fn request(content: &str) -> CompleteRequest {
        serde_json::from_value(json!({
            "model": "gpt-4", "cache": true, "messages": [{"role": "user", "content": content}]
        }))
        .unwrap()
    }

    fn completion(text: &str) -> Completion {
        Completion {
            text: text.to_owned(),
            model: "gpt-4".to_owned(),
            provider: "openai".to_owned(),
            usage: Usage {
                input_tokens: 10,
                output_tokens: 5,
                cost_usd: 0.5,
            },
            usage_estimated: false,
            failed: Vec::new(),
            tool_calls: Vec::new(),
            finish_reason: "stop".to_owned(),
            attempt: 2,
            cached_tokens: 7,
            from_cache: false,
        }
    }

    fn cache(entries: usize, bytes: usize) -> Cache {
        Cache::new(CacheRules {
            entries,
            bytes,
            ttl_seconds: 60,
        })
    }

    fn question(request: &CompleteRequest) -> Question {
        Question::of(&Tenant::default(), request).unwrap()
    }

    #[test]
    fn the_same_question_is_answered_for_nothing_until_its_time_is_over() {
        let (cache, now, asked) = (cache(10, 100_000), Instant::now(), request("a"));
        cache.keep(question(&asked), &asked, &completion("yes"), now);
        let found = cache.find(&question(&asked), now + Duration::from_secs(59)).unwrap();
        assert_eq!((found.text.as_str(), found.attempt, found.cached_tokens), ("yes", 1, 0));
        assert!(found.from_cache && found.usage == Usage::default());
        assert!(cache.find(&question(&asked), now + Duration::from_secs(60)).is_none());
        assert!(cache.lock().by_question.is_empty() && cache.lock().bytes == 0);
    }

    #[test]
    fn all_that_an_answer_depends_on_makes_another_question() {
        let asked = request("a");
        let mut others = vec![request("b")];
        let mut change = |change: fn(&mut CompleteRequest)| {
            let mut other = asked.clone();
            change(&mut other);
            others.push(other);
        };
        change(|other| other.model = "gpt-5".into());
        change(|other| other.fallbacks = vec!["mock".into()]);
        change(|other| other.tools = vec![json!({})]);
        change(|other| other.temperature = Some(0.0));
        change(|other| other.max_tokens = Some(1));
        change(|other| other.response_schema = Some(json!({})));
        change(|other| drop(other.metadata.insert("mock_script".into(), json!("x"))));
        for other in &others {
            assert_ne!(question(&asked), question(other), "{other:?}");
        }
        let elsewhere = "other".parse().unwrap();
        assert_ne!(
            Some(question(&asked)),
            Question::of(&elsewhere, &asked),
            "tenants never share"
        );
        let mut same = asked.clone();
        same.idempotency_key = Some("inv/1".into());
        same.metadata.insert("x".into(), json!(1));
        assert_eq!(question(&asked), question(&same));
        same.cache = false;
        assert!(Question::of(&Tenant::default(), &same).is_none());
    }

    #[test]
    fn half_answers_and_those_of_others_are_not_kept() {
        let (cache, now, mut asked) = (cache(10, 100_000), Instant::now(), request("a"));
        let mut cut = completion("half");
        cut.finish_reason = "length".into();
        let mut other = completion("another model's");
        other.model = "mock".into();
        let mut calls = completion("");
        calls.tool_calls = vec![json!({"id": "1"})];
        calls.finish_reason = "tool_calls".into();
        for answer in [&cut, &other, &calls] {
            cache.keep(question(&asked), &asked, answer, now);
            assert!(cache.find(&question(&asked), now).is_none(), "{answer:?}");
        }
        asked.temperature = Some(0.0);
        cache.keep(question(&asked), &asked, &calls, now);
        assert_eq!(cache.find(&question(&asked), now).unwrap().tool_calls, calls.tool_calls);
    }

    #[test]
    fn the_least_recently_used_goes_first_and_the_bounds_hold() {
        let (cache, now) = (cache(3, 3 * (ENTRY_BYTES + 100)), Instant::now());
        let asked: Vec<CompleteRequest> = (0..5).map(|number| request(&number.to_string())).collect();
        let keep = |number: usize, text: &str| {
            cache.keep(question(&asked[number]), &asked[number], &completion(text), now);
        };
        let has = |number: usize| cache.find(&question(&asked[number]), now).is_some();
        (0..3).for_each(|number| keep(number, "x"));
        assert!(has(0));
        keep(3, "x");
        assert!(has(0) && !has(1) && has(2) && has(3));
        keep(4, &"x".repeat(250));
        let entries = cache.lock();
        assert!(entries.bytes <= cache.rules.bytes && entries.by_question.len() == entries.by_use.len());
        drop(entries);
        assert!(has(4));
        keep(1, &"x".repeat(100_000));
        assert!(!has(1) && has(4), "too long for all of it");
    }
}
