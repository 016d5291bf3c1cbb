//! Sign-in at the edge: cookies, what a browser is sent, what stands in which answer.

use std::sync::{Arc, Mutex};

use gateway::Config;
use mesh_api::identity::{
    CredentialVerify, Me, MeRequest, MeView, Membership, Methods, MethodsRequest, Mode, Person, Principal,
    PrincipalKind, ProviderFinish, ProviderFinishRequest, ProviderFinished, ProviderStart, ProviderStartRequest,
    ProviderStarted, Refresh, RefreshRequest, SessionView, SignIn, SignInMethods, SignInRequest, SignOut,
    SignOutRequest, SignedIn, SignedOut, TicketCreate, TicketCreated, TicketRequest, VerifyRequest,
};
use mesh_api::{Caller, Role};
use mesh_bus::ServiceHandle;
use mesh_types::{Code, Problem, Tenant};
use reqwest::{RequestBuilder, Response};
use serde_json::json;

use crate::support::{Edge, json_of, problem};

/// What `identity` was asked, in words.
type Asked = Arc<Mutex<Vec<String>>>;

struct Door {
    edge: Edge,
    asked: Asked,
    _identity: ServiceHandle,
}

fn signed_in(refresh_token: &str) -> SignedIn {
    SignedIn {
        session: SessionView {
            access_token: "access".into(),
            expires_in: 600,
            tenant: Tenant::default(),
            role: Role::Developer,
            user: person(),
            tenants: vec![membership()],
        },
        refresh_token: refresh_token.into(),
        refresh_expires_in: 1_000,
    }
}

fn person() -> Person {
    Person {
        id: "usr_01ARZ3NDEKTSV4RRFFQ69G5FAV".into(),
        login: "ann".into(),
        name: "Ann".into(),
    }
}

fn membership() -> Membership {
    Membership {
        tenant: Tenant::default(),
        role: Role::Developer,
    }
}

fn unauthorized() -> Problem {
    Problem::new(Code::Unauthorized, "no")
}

impl Door {
    #[expect(clippy::too_many_lines, reason = "a table of endpoints")]
    async fn start(require_credentials: bool) -> Self {
        let edge = Edge::start_with(Config {
            require_credentials,
            ..Config::default()
        })
        .await;
        let asked = Asked::default();
        let note = |asked: &Asked| {
            let asked = Arc::clone(asked);
            move |text: String| asked.lock().unwrap().push(text)
        };
        let (in_, out, begun, back, made) = (note(&asked), note(&asked), note(&asked), note(&asked), note(&asked));
        let identity = edge
            .bus
            .service("identity", "0.1.0")
            .endpoint::<SignIn, _, _>(move |_: Caller, request: SignInRequest| {
                in_(format!("sign-in {} from {}", request.login, request.address));
                let is_right = request.password == "right";
                async move { is_right.then(|| signed_in("mrt_1")).ok_or_else(unauthorized) }
            })
            .endpoint::<Refresh, _, _>(|_: Caller, request: RefreshRequest| async move {
                let is_good = request.refresh_token == "mrt_1";
                is_good.then(|| signed_in("mrt_2")).ok_or_else(unauthorized)
            })
            .endpoint::<SignOut, _, _>(move |_: Caller, request: SignOutRequest| {
                out(format!("sign-out {}", request.refresh_token));
                async move { Ok(SignedOut { ended: true }) }
            })
            .endpoint::<Me, _, _>(|_: Caller, _: MeRequest| async move {
                Ok(MeView {
                    user: person(),
                    tenants: vec![membership()],
                })
            })
            .endpoint::<Methods, _, _>(|_: Caller, _: MethodsRequest| async move {
                Ok(SignInMethods {
                    mode: Mode::Credentials,
                    password: true,
                    providers: Vec::new(),
                })
            })
            .endpoint::<ProviderStart, _, _>(move |_: Caller, request: ProviderStartRequest| {
                begun(format!("start {} to {}", request.provider, request.return_to));
                async move {
                    Ok(ProviderStarted {
                        location: "https://id.example.org/authorize?state=s".into(),
                        binding: "bound".into(),
                    })
                }
            })
            .endpoint::<ProviderFinish, _, _>(move |_: Caller, request: ProviderFinishRequest| {
                back(format!("finish {} {} {}", request.code, request.state, request.binding));
                let is_good = request.code == "good";
                async move {
                    let finished = ProviderFinished {
                        signed_in: signed_in("mrt_1"),
                        return_to: "/agents".into(),
                    };
                    is_good.then_some(finished).ok_or_else(unauthorized)
                }
            })
            .endpoint::<TicketCreate, _, _>(move |caller: Caller, request: TicketRequest| {
                made(format!("ticket for {} with {:?}", caller.actor, request.credential));
                async move {
                    Ok(TicketCreated {
                        ticket: "mtk_1".into(),
                        expires_in: 30,
                    })
                }
            })
            .endpoint::<CredentialVerify, _, _>(|_: Caller, request: VerifyRequest| async move {
                let principal = Principal {
                    id: person().id,
                    kind: PrincipalKind::User,
                    owner: "ann".into(),
                    tenant: Tenant::default(),
                    role: Some(Role::Developer),
                    scopes: Vec::new(),
                };
                (request.credential == "access")
                    .then_some(principal)
                    .ok_or_else(unauthorized)
            })
            .start()
            .await
            .unwrap();
        Self {
            edge,
            asked,
            _identity: identity,
        }
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.edge.post(&format!("/api/v1/auth/{path}"), &json!({}))
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn sent(request: RequestBuilder) -> Response {
    request.send().await.unwrap()
}

fn cookies(response: &Response) -> Vec<String> {
    let all = response.headers().get_all("set-cookie").iter();
    all.map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_sign_in_answers_the_access_token_and_sets_the_refresh_token_as_a_cookie() {
    let door = Door::start(true).await;
    let body = json!({"login": "ann", "password": "right"});
    let response = sent(door.edge.post("/api/v1/auth/sign-in", &body)).await;
    assert_eq!(
        cookies(&response),
        ["mesh_refresh=mrt_1; HttpOnly; Secure; SameSite=Strict; Path=/api/v1/auth; Max-Age=1000"]
    );
    assert_eq!(response.headers()["cache-control"], "no-store");
    let body = json_of(response).await;
    assert_eq!(body["access_token"], "access");
    assert_eq!(
        (&body["user"]["login"], &body["role"]),
        (&json!("ann"), &json!("developer"))
    );
    assert!(!body.to_string().contains("mrt_"), "{body}");
    assert_eq!(door.asked(), ["sign-in ann from 127.0.0.1"]);
    let wrong = json!({"login": "ann", "password": "wrong"});
    let refused = sent(door.edge.post("/api/v1/auth/sign-in", &wrong)).await;
    assert!(cookies(&refused).is_empty());
    assert_eq!(problem(refused).await["type"], "identity/unauthorized");
}

#[tokio::test]
async fn the_cookie_goes_on_is_taken_away_when_it_is_over_and_at_the_sign_out() {
    let door = Door::start(true).await;
    let with = |path: &str, cookie: &str| door.post(path).header("Cookie", format!("mesh_refresh={cookie}"));
    let response = sent(with("refresh", "mrt_1")).await;
    assert!(cookies(&response)[0].starts_with("mesh_refresh=mrt_2; HttpOnly"));
    assert_eq!(json_of(response).await["access_token"], "access");
    let over = sent(with("refresh", "mrt_0")).await;
    assert!(cookies(&over)[0].contains("Max-Age=0"));
    assert_eq!(problem(over).await["status"], 401);
    assert_eq!(problem(sent(door.post("refresh")).await).await["status"], 401);
    let out = sent(with("sign-out", "mrt_1")).await;
    assert_eq!(out.status(), 204);
    assert!(cookies(&out)[0].contains("Max-Age=0"));
    assert_eq!(door.asked(), ["sign-out mrt_1"]);
    // Nobody is signed in, and that is what was asked for.
    assert_eq!(sent(door.post("sign-out")).await.status(), 204);
}

#[tokio::test]
async fn another_sites_page_cannot_use_the_cookie() {
    let door = Door::start(true).await;
    for path in ["refresh", "sign-out", "sign-in"] {
        let body = json!({"login": "ann", "password": "right"});
        let request = door.edge.post(&format!("/api/v1/auth/{path}"), &body);
        let foreign = request
            .header("Cookie", "mesh_refresh=mrt_1")
            .header("Origin", "https://evil.example");
        assert_eq!(
            problem(sent(foreign).await).await["type"],
            "identity/forbidden",
            "{path}"
        );
    }
    assert!(door.asked().is_empty(), "{:?}", door.asked());
    let own = door.post("refresh").header("Cookie", "mesh_refresh=mrt_1");
    let own = own.header("Origin", format!("http://{}", door.edge.address));
    assert_eq!(sent(own).await.status(), 200);
}

#[tokio::test]
async fn who_is_signed_in_learns_who_he_is_and_gets_tickets() {
    let door = Door::start(true).await;
    let me = sent(door.edge.get("/api/v1/auth/me").bearer_auth("access")).await;
    let me = json_of(me).await;
    assert_eq!((&me["mode"], &me["actor"]), (&json!("credentials"), &json!("user:ann")));
    assert_eq!(
        (&me["user"]["login"], &me["tenants"][0]["role"]),
        (&json!("ann"), &json!("developer"))
    );
    let made = sent(door.post("tickets").bearer_auth("access")).await;
    assert_eq!(
        (made.status().as_u16(), &made.headers()["cache-control"]),
        (201, &"no-store".parse().unwrap())
    );
    assert_eq!(json_of(made).await, json!({"ticket": "mtk_1", "expires_in": 30}));
    assert_eq!(door.asked(), [r#"ticket for user:ann with Some("access")"#]);
    for path in ["tickets", "me"] {
        let method = if path == "me" {
            reqwest::Method::GET
        } else {
            reqwest::Method::POST
        };
        let path = format!("/api/v1/auth/{path}");
        let nobody = door.edge.request(method, &path).header("Cookie", "mesh_refresh=mrt_1");
        assert_eq!(problem(sent(nobody).await).await["status"], 401, "{path}");
    }
}

#[tokio::test]
async fn in_development_everybody_is_the_developer() {
    let door = Door::start(false).await;
    let methods = json_of(sent(door.edge.get("/api/v1/auth/methods")).await).await;
    assert_eq!(
        methods,
        json!({"mode": "development", "password": false, "providers": []})
    );
    let me = sent(door.edge.get("/api/v1/auth/me").header("Mesh-Tenant", "daarion")).await;
    let me = json_of(me).await;
    assert_eq!(
        (&me["mode"], &me["actor"], &me["user"]),
        (&json!("development"), &json!("dev"), &json!(null))
    );
    assert_eq!(me["tenants"], json!([{"tenant": "daarion", "role": "owner"}]));
    assert_eq!(sent(door.post("tickets").bearer_auth("whatever")).await.status(), 201);
    assert_eq!(door.asked(), ["ticket for dev with None"]);
}

#[tokio::test]
async fn a_browser_goes_to_the_provider_and_comes_back_bound_by_a_cookie() {
    let door = Door::start(true).await;
    let browser = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let at = |path: &str| format!("http://{}/api/v1/auth/providers/corp/{path}", door.edge.address);
    let there = sent(browser.get(at("start?return_to=/agents"))).await;
    assert_eq!(there.status(), 302);
    assert_eq!(there.headers()["location"], "https://id.example.org/authorize?state=s");
    let bound = &cookies(&there)[0];
    assert!(bound.starts_with("mesh_sign_in=bound; HttpOnly; Secure; SameSite=Lax; Path=/api/v1/auth/providers;"));
    let back = browser.get(at("callback?code=good&state=s&iss=more&scope=x"));
    let back = sent(back.header("Cookie", "mesh_sign_in=bound")).await;
    assert_eq!(
        (back.status().as_u16(), back.headers()["location"].to_str().unwrap()),
        (302, "/agents")
    );
    let set = cookies(&back);
    assert!(
        set[0].starts_with("mesh_sign_in=;") && set[1].starts_with("mesh_refresh=mrt_1;"),
        "{set:?}"
    );
    let wrong = sent(browser.get(at("callback?error=access_denied&state=s"))).await;
    assert_eq!(wrong.headers()["location"], "/sign-in?error=identity/unauthorized");
    assert!(cookies(&wrong).iter().all(|cookie| !cookie.contains("mesh_refresh")));
    assert_eq!(
        door.asked(),
        ["start corp to /agents", "finish good s bound", "finish  s "]
    );
}
