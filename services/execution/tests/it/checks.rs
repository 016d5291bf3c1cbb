//! What must hold whenever all is quiet: the journal is gapless, ends once, and everything else equals it.

use std::collections::BTreeMap;

use mesh_api::PageQuery;
use mesh_api::execution::{
    Counts, FeedRequest, Invocation, InvocationCounts, InvocationFeed, InvocationFilter, InvocationGet, InvocationList,
    InvocationRequest, ListRequest,
};
use mesh_api::journal::{Fact, JournalPage, Record};
use mesh_api::overview::{InvocationOverview, OverviewRange, OverviewRequest};
use mesh_testkit::wait_until;

use crate::mesh::{Mesh, SOON};

impl Mesh {
    /// Waits until feed and read model have caught up, then compares all of them with the journal of every invocation
    /// of the tenant `default`. Answers how many there are.
    pub(crate) async fn check(&self) -> usize {
        wait_until(SOON, || async {
            let status = self
                .ask::<mesh_api::execution::ExecutionStatus>(mesh_api::execution::Empty {})
                .await;
            status.is_ok_and(|status| status.relayed)
        })
        .await;
        // What was asked for and answered as unknown may be committed only now.
        wait_until(SOON, || async {
            let rows = self
                .count("SELECT count(*) FROM execution.invocation WHERE tenant = 'default'")
                .await;
            i64::try_from(self.list_all().await.len()) == Ok(rows)
        })
        .await;
        let listed = self.list_all().await;
        let mut counted = Counts::default();
        for summary in &listed {
            let read = self
                .ask::<InvocationGet>(InvocationRequest { id: summary.id })
                .await
                .unwrap();
            let records = self.journal(&read).await;
            assert_is_gapless(&read, &records);
            assert_follows_from_journal(&read, &records);
            assert_summary_equals(summary, &read);
            counted.all += 1;
            *state_of(&mut counted, &read) += 1;
        }
        let counts = self.ask::<InvocationCounts>(InvocationFilter::default()).await.unwrap();
        assert_eq!(counts, counted);
        self.check_overview(&counts).await;
        let rows = self
            .count("SELECT count(*) FROM execution.invocation WHERE tenant = 'default'")
            .await;
        assert_eq!(rows, i64::try_from(listed.len()).unwrap(), "every invocation is listed");
        listed.len()
    }

    /// All that a test does lies within the last week.
    async fn check_overview(&self, counts: &Counts) {
        let range = OverviewRange::Week;
        let overview = self.ask::<InvocationOverview>(OverviewRequest { range }).await.unwrap();
        let (open, ended) = (overview.open, overview.ended);
        assert_eq!(
            (open.queued, open.running, open.waiting),
            (counts.queued, counts.running, counts.waiting)
        );
        assert_eq!(
            (ended.completed, ended.failed, ended.cancelled, ended.dead),
            (counts.completed, counts.failed, counts.cancelled, counts.dead)
        );
        let of_parts: u64 = overview.parts.iter().map(|part| part.ended.all()).sum();
        let of_agents: u64 = overview.agents.iter().map(|agent| agent.ended.all()).sum();
        assert_eq!((of_parts, of_agents), (ended.all(), ended.all()));
        let with_latency = overview.agents.iter().filter(|agent| agent.p99_ms.is_some()).count();
        let that_completed = overview.agents.iter().filter(|agent| agent.ended.completed > 0).count();
        assert_eq!(with_latency, that_completed);
    }

    async fn list_all(&self) -> Vec<Invocation> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let page = PageQuery { limit: Some(50), after };
            let request = ListRequest {
                filter: InvocationFilter::default(),
                page,
            };
            let page = self.ask::<InvocationList>(request).await.unwrap();
            all.extend(page.items);
            after = page.next;
            if after.is_none() {
                return all;
            }
        }
    }

    /// All records, page by page.
    pub(crate) async fn journal(&self, invocation: &Invocation) -> Vec<Record> {
        let mut records: Vec<Record> = Vec::new();
        loop {
            let after_seq = records.last().map_or(0, |record| record.seq);
            let request = FeedRequest {
                invocation: invocation.id,
                after_seq,
            };
            let page: JournalPage = self.ask::<InvocationFeed>(request).await.unwrap();
            records.extend(page.records);
            if !page.more {
                return records;
            }
        }
    }
}

fn assert_is_gapless(invocation: &Invocation, records: &[Record]) {
    for (n, record) in records.iter().enumerate() {
        assert_eq!(record.seq as usize, n + 1, "{records:#?}");
    }
    assert!(
        records.windows(2).all(|pair| pair[0].epoch <= pair[1].epoch),
        "{records:#?}"
    );
    assert!(matches!(records[0].fact, Fact::Accepted(_)));
    let ends = records
        .iter()
        .filter(|record| matches!(record.fact, Fact::Ended(_)))
        .count();
    assert_eq!(ends, usize::from(invocation.state.is_ended()), "{records:#?}");
    let mut done: BTreeMap<u32, usize> = BTreeMap::new();
    for record in records {
        if let Fact::Done(step) = &record.fact {
            *done.entry(step.step).or_default() += 1;
        }
    }
    assert!(
        done.values().all(|times| *times == 1),
        "a step is recorded once: {records:#?}"
    );
}

fn assert_follows_from_journal(invocation: &Invocation, records: &[Record]) {
    let last = records.last().unwrap();
    assert_eq!(invocation.cursor, last.seq);
    let claims = records
        .iter()
        .filter(|record| matches!(record.fact, Fact::Claimed(_)))
        .count();
    match &last.fact {
        Fact::Ended(ended) => {
            assert_eq!(invocation.state, ended.outcome.into());
            assert_eq!(invocation.output, ended.output);
            assert_eq!(invocation.error, ended.error);
            assert_eq!(invocation.usage, ended.usage);
            assert_eq!(invocation.ended_at, Some(last.at));
        }
        _ => assert_eq!(invocation.attempt as usize, claims),
    }
}

fn assert_summary_equals(summary: &Invocation, read: &Invocation) {
    let short = |invocation: &Invocation| {
        let Invocation {
            id,
            state,
            attempt,
            created_at,
            started_at,
            ended_at,
            usage,
            ..
        } = invocation.clone();
        (
            id,
            state,
            attempt,
            created_at,
            started_at,
            ended_at,
            usage,
            invocation.provider.clone(),
        )
    };
    assert_eq!(short(summary), short(read));
    assert_eq!(summary.error.is_some(), read.error.is_some());
}

fn state_of<'a>(counts: &'a mut Counts, invocation: &Invocation) -> &'a mut u64 {
    use mesh_api::execution::State;
    match invocation.state {
        State::Queued => &mut counts.queued,
        State::Running => &mut counts.running,
        State::Waiting => &mut counts.waiting,
        State::Completed => &mut counts.completed,
        State::Failed => &mut counts.failed,
        State::Cancelled => &mut counts.cancelled,
        State::Dead => &mut counts.dead,
    }
}
