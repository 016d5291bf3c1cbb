//! Who may do what, on every operation that the API describes, against the real mesh: whoever has no good credential,
//! too little of a role, not the scope, or is of another tenant is refused, and learns and changes nothing.

use reqwest::Method;
use serde_json::{Value, json};

use crate::described::{Described, Operation, Values};
use crate::harness::{Answer, Http, Mesh, send, unique, until};

/// From least to most.
const ROLES: [&str; 5] = ["viewer", "service", "operator", "developer", "owner"];
const TENANT: &str = "default";
const OTHER: &str = "elsewhere";

/// A mesh that demands credentials, with something of everything in a tenant, and keys of all sorts.
struct Ground {
    mesh: Mesh,
    api: Described,
    admin: Http,
    /// Stands in everything that the tenant has.
    marker: String,
    /// What stands for the parameters of paths.
    ids: Vec<(&'static str, String)>,
}

impl Ground {
    async fn up() -> Self {
        let mesh = Mesh::up_with(&[
            ("MESH_REQUIRE_CREDENTIALS", "1".into()),
            // Guessing ends soon; here it must not.
            ("MESH_GATEWAY__RATES__ADDRESS_REQUESTS", "1000000".into()),
        ])
        .await;
        let admin = mesh.http().key(&mesh.admin_key());
        let api = Described::read(&admin).await;
        let (marker, ids) = furnish(&admin).await;
        Self {
            mesh,
            api,
            admin,
            marker,
            ids,
        }
    }

    async fn key(&self, body: Value) -> (String, String) {
        let made = self.admin.post("/api/v1/keys", &body).await.expect(201);
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        (text(&made["key"]["id"]), text(&made["secret"]))
    }

    async fn key_of(&self, role: &str) -> String {
        self.key(json!({"owner": format!("a-{role}"), "role": role})).await.1
    }

    fn guarded(&self) -> impl Iterator<Item = Operation<'_>> {
        self.api.operations().into_iter().filter(|one| !one.is_public())
    }

    /// The operation as plainly as it goes, on what the tenant has.
    async fn ask(&self, operation: Operation<'_>, http: &Http) -> Answer {
        let mut path = operation.path.to_owned();
        for (name, parameter) in operation.parameters("path") {
            let id = self.id_for(operation, name, parameter);
            path = path.replace(&format!("{{{name}}}"), &id);
        }
        let mut request = http.request(operation.http_method(), &path);
        if let Some(schema) = operation.body() {
            request = request.json(&Values::plain(&self.api).of(schema));
        }
        send(request).await
    }

    fn id_for(&self, operation: Operation<'_>, name: &str, parameter: &Value) -> String {
        let reference = parameter["schema"]["$ref"].as_str().unwrap_or_default();
        let kind = reference.rsplit('/').next().unwrap_or_default();
        let family = if kind.is_empty() || kind == "Token" {
            operation.path
        } else {
            kind
        };
        let found = self.ids.iter().find(|(of, _)| family.contains(of));
        let plain = || Values::plain(&self.api).of(&parameter["schema"]);
        found.map_or_else(|| plain().as_str().unwrap_or(name).to_owned(), |(_, id)| id.clone())
    }

    /// All that the tenant has, as its owner sees it.
    async fn snapshot(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for path in [
            "/api/v1/agents",
            "/api/v1/memories",
            "/api/v1/knowledge/documents",
            "/api/v1/nodes",
            "/api/v1/pauses",
            "/api/v1/invocations",
            "/api/v1/channels/matrix/messages",
        ] {
            let mut page = self.admin.get(path).await;
            // Seen a moment ago; that is no change.
            for item in page["items"].as_array_mut().into_iter().flatten() {
                item["last_seen_at"] = Value::Null;
                item["last_accessed_at"] = Value::Null;
            }
            all.push(page);
        }
        all
    }
}

/// Something of everything, and its ids by the name of their schema or the path that they stand in.
async fn furnish(http: &Http) -> (String, Vec<(&'static str, String)>) {
    let marker = unique("marked");
    let agent = unique("agent");
    let id = |value: &Value| value["id"].as_str().expect("an id").to_owned();
    let declared = json!({"metadata": {"name": agent}, "spec": {"runtime": "noop", "instructions": marker}});
    http.post("/api/v1/agents", &declared).await.expect(201);
    http.post(&format!("/api/v1/agents/{agent}/publish"), &json!({}))
        .await
        .expect(200);
    let body = json!({"payload": {"steps": 1, "text": marker}});
    let invocation = http.invoke(&agent, "?wait=30", &body).await.expect(200);
    let memory = json!({"agent": agent, "content": marker});
    let memory = http.post("/api/v1/memories", &memory).await.expect(201);
    let document = json!({"name": "it", "text": marker});
    let document = http
        .post("/api/v1/knowledge/matrix/documents", &document)
        .await
        .expect(201);
    let said = json!({"text": marker});
    http.post("/api/v1/channels/matrix/messages", &said).await.expect(201);
    let node = json!({"node_id": unique("node"), "name": marker, "mode": "private"});
    let node = http
        .post("/api/runtimes/v1/agent-nodes/register", &node)
        .await
        .expect(200);
    let key = http
        .post("/api/v1/keys", &json!({"owner": "somebody", "name": marker}))
        .await
        .expect(201);
    let token = http.post("/api/v1/join-tokens", &json!({})).await.expect(201);
    let ids = vec![
        ("AgentName", agent),
        ("InvocationId", id(&invocation)),
        ("/approvals/", format!("{}-1", id(&invocation))),
        ("MemoryId", id(&memory)),
        ("DocumentId", id(&document)),
        ("ChannelId", "matrix".to_owned()),
        (
            "NodeId",
            node["agent_node"]["node_id"].as_str().expect("an id").to_owned(),
        ),
        ("/keys/", id(&key["key"])),
        ("/join-tokens/", id(&token["join_token"])),
        ("BaseName", "matrix".to_owned()),
        ("/knowledge/", "matrix".to_owned()),
    ];
    (marker, ids)
}

/// A problem that says why, in the words of the API or of the one whose clients it speaks to.
#[track_caller]
fn is_refused(answer: &Answer, statuses: &[u16], case: &str) {
    assert!(
        statuses.contains(&answer.status),
        "{case}: {} {}",
        answer.status,
        answer.text
    );
    let body = &answer.body;
    let says_why = body["detail"].is_string() || body["error"]["message"].is_string() || !body["error"].is_null();
    assert!(says_why, "{case}: {}", answer.text);
}

/// Unsigned, signed by a secret, and past its end: none of them by this mesh.
fn forged() -> [(&'static str, String); 4] {
    use base64::Engine;
    let text = |value: Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = |expires: u64| {
        text(
            json!({"sub": "usr_01ARZ3NDEKTSV4RRFFQ69G5FAV", "tenant": TENANT, "role": "owner",
            "sid": "ses_01ARZ3NDEKTSV4RRFFQ69G5FAV", "jti": "x", "iat": 1_700_000_000, "exp": expires}),
        )
    };
    let (later, past) = (claims(4_000_000_000), claims(1_700_000_600));
    let header = |algorithm: &str| text(json!({"alg": algorithm, "typ": "JWT", "kid": "1"}));
    let signature = "A".repeat(43);
    [
        ("alg=none", format!("{}.{later}.", header("none"))),
        ("HS256", format!("{}.{later}.{signature}", header("HS256"))),
        (
            "a foreign signature",
            format!("{}.{later}.{}", header("EdDSA"), "A".repeat(86)),
        ),
        ("past its end", format!("{}.{past}.{}", header("EdDSA"), "A".repeat(86))),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_in_without_a_good_credential_of_enough_right_on_any_route() {
    let ground = Ground::up().await;
    let before = ground.snapshot().await;
    let open = ground.mesh.http();
    // Who is nobody, is not any more, or says that he is somebody.
    let (id, revoked) = ground.key(json!({"owner": "gone"})).await;
    let revoke = format!("/api/v1/keys/{id}/revoke");
    ground.admin.post(&revoke, &json!({})).await.expect(200);
    let (_, expired) = ground.key(json!({"owner": "late", "expires_in_seconds": 1})).await;
    let late = open.key(&expired);
    until(30, "the key expires", || async {
        let answer = late.try_get("/api/v1/agents").await?;
        (answer.status == 401).then_some(())
    })
    .await;
    let mut strangers = vec![
        ("no credential", open.clone()),
        ("garbage", open.key("garbage")),
        (
            "a guessed secret",
            open.key(&format!("mak_01ARZ3NDEKTSV4RRFFQ69G5FAV_{}", "A".repeat(43))),
        ),
        ("a revoked key", open.key(&revoked)),
        ("an expired key", late),
    ];
    let forged = forged();
    strangers.extend(forged.iter().map(|(name, token)| (*name, open.key(token))));
    let mut count = 0;
    for operation in ground.guarded() {
        for (name, stranger) in &strangers {
            let case = format!("{name}: {} {}", operation.method, operation.path);
            is_refused(&ground.ask(operation, stranger).await, &[401], &case);
            count += 1;
        }
    }
    assert!(count > 500, "{count}");
    lower_roles(&ground).await;
    missing_scopes(&ground).await;
    assert_eq!(ground.snapshot().await, before, "nothing has changed");
    another_tenant(&ground).await;
    assert_eq!(ground.snapshot().await, before, "another tenant changes nothing");
}

/// The best role that does not suffice, or a join token where every role does.
async fn lower_roles(ground: &Ground) {
    let mut keys = Vec::new();
    for role in ROLES {
        keys.push(ground.mesh.http().key(&ground.key_of(role).await));
    }
    let made = ground.admin.post("/api/v1/join-tokens", &json!({})).await.expect(201);
    let join = ground.mesh.http().key(made["secret"].as_str().expect("a secret"));
    for operation in ground.guarded() {
        let open_to = operation.open_to();
        let least = ROLES.iter().position(|role| open_to.contains(role));
        let case = format!("{} {} of {open_to:?}", operation.method, operation.path);
        match least {
            Some(0) if open_to.contains(&"join") => {}
            Some(0) => is_refused(&ground.ask(operation, &join).await, &[403], &case),
            Some(least) => is_refused(&ground.ask(operation, &keys[least - 1]).await, &[403], &case),
            None => is_refused(&ground.ask(operation, &keys[4]).await, &[403], &case),
        }
    }
    // And the role itself suffices: what is refused is not refused to everybody.
    for operation in ground
        .guarded()
        .filter(|one| one.method == "get" && one.open_to().contains(&"viewer"))
    {
        if operation.parameters("path").next().is_none() {
            let answer = ground.ask(operation, &keys[0]).await;
            assert_ne!(answer.status, 403, "{} {}", operation.path, answer.text);
        }
    }
}

async fn missing_scopes(ground: &Ground) {
    let mut keys = Vec::new();
    for scope in ["agents:write", "models:read"] {
        let body = json!({"owner": "narrow", "role": "owner", "scopes": [scope]});
        keys.push(ground.mesh.http().key(&ground.key(body).await.1));
    }
    for operation in ground.guarded() {
        let tag = operation.tag();
        if tag == "auth" || !operation.open_to().iter().any(|name| ROLES.contains(name)) {
            continue;
        }
        let key = &keys[usize::from(tag == "agents")];
        let case = format!("without {tag}: {} {}", operation.method, operation.path);
        is_refused(&ground.ask(operation, key).await, &[403], &case);
    }
    assert_eq!(send(keys[0].request(Method::GET, "/api/v1/agents")).await.status, 200);
}

/// An owner elsewhere, who knows every id here.
async fn another_tenant(ground: &Ground) {
    let (_, secret) = ground
        .key(json!({"owner": "eve", "role": "owner", "tenant": OTHER}))
        .await;
    let eve = ground.mesh.http().key(&secret);
    let mut named = 0;
    for operation in ground.guarded() {
        let case = format!("elsewhere: {} {}", operation.method, operation.path);
        let answer = ground.ask(operation, &eve).await;
        assert!(answer.status < 500 || answer.status == 503, "{case}: {}", answer.text);
        assert!(!answer.text.contains(&ground.marker), "{case} tells: {}", answer.text);
        named += usize::from([403, 404].contains(&answer.status));
        // Nor by saying that he is of here.
        let case = format!("{case} as of here");
        let as_of_here = ground.ask(operation, &eve.tenant(TENANT)).await;
        is_refused(&as_of_here, &[403], &case);
    }
    assert!(
        named > 25,
        "{named} operations name something that is not there for him"
    );
}
