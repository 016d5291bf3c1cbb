//! Tickets: what opens a stream, once, for whoever asked for it.

use std::time::Duration;

use mesh_api::Role;
use mesh_api::identity::{
    KeyRevoke, Redeemed, RevokeRequest, SignOut, SignOutRequest, Standing, StandingRequest, TicketCreate, TicketRedeem,
    TicketRedeemRequest, TicketRequest,
};
use mesh_types::{Code, Problem};

use crate::setup::Mesh;

async fn ticket(mesh: &Mesh, credential: Option<&str>) -> Result<String, Problem> {
    let request = TicketRequest {
        credential: credential.map(str::to_owned),
    };
    let made = mesh.call::<TicketCreate>("service:gateway", request).await?;
    assert_eq!(made.expires_in, 30);
    Ok(made.ticket)
}

async fn redeem(mesh: &Mesh, ticket: &str) -> Result<Redeemed, Problem> {
    let request = TicketRedeemRequest { ticket: ticket.into() };
    mesh.call::<TicketRedeem>("service:gateway", request).await
}

#[tokio::test]
async fn a_ticket_opens_one_stream_however_many_show_it_at_once() {
    let mesh = Mesh::start().await;
    mesh.person("ann", Role::Operator).await;
    let token = mesh.sign_in("ann").await.session.access_token;
    let made = ticket(&mesh, Some(&token)).await.unwrap();
    let tries = (0..8).map(|_| redeem(&mesh, &made));
    let tries = futures::future::join_all(tries).await;
    let mut opened: Vec<_> = tries.into_iter().filter_map(Result::ok).collect();
    assert_eq!(opened.len(), 1);
    let who = opened.remove(0);
    assert_eq!((who.actor.as_str(), who.role), ("user:ann", Role::Operator));
    assert!(who.standing.unwrap().starts_with("ses_") && who.expires_at.is_some());
    assert!(redeem(&mesh, &made).await.unwrap_err().is(Code::Unauthorized));
    let late = ticket(&mesh, Some(&token)).await.unwrap();
    mesh.pass(Duration::from_secs(30));
    assert!(redeem(&mesh, &late).await.unwrap_err().is(Code::Unauthorized));
    for wrong in ["", "mtk_", "mtk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", &token] {
        assert!(
            redeem(&mesh, wrong).await.unwrap_err().is(Code::Unauthorized),
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn a_ticket_is_as_good_as_what_it_was_made_with() {
    let mesh = Mesh::start().await;
    mesh.person("ann", Role::Viewer).await;
    let signed_in = mesh.sign_in("ann").await;
    let of_session = ticket(&mesh, Some(&signed_in.session.access_token)).await.unwrap();
    let open = redeem(
        &mesh,
        &ticket(&mesh, Some(&signed_in.session.access_token)).await.unwrap(),
    )
    .await
    .unwrap();
    let standing = || StandingRequest {
        id: open.standing.clone().unwrap(),
    };
    assert_eq!(
        mesh.call::<Standing>("service:gateway", standing()).await.unwrap().role,
        Role::Viewer
    );
    let request = SignOutRequest {
        refresh_token: signed_in.refresh_token,
    };
    mesh.call::<SignOut>("service:gateway", request).await.unwrap();
    assert!(redeem(&mesh, &of_session).await.unwrap_err().is(Code::Unauthorized));
    assert!(
        mesh.call::<Standing>("service:gateway", standing())
            .await
            .unwrap_err()
            .is(Code::Unauthorized)
    );
    let key = mesh.key("ci").await;
    let of_key = redeem(&mesh, &ticket(&mesh, Some(&key.secret)).await.unwrap())
        .await
        .unwrap();
    assert_eq!(
        (of_key.actor.as_str(), of_key.standing.as_deref()),
        ("user:ci", Some(key.key.id.as_str()))
    );
    let left = ticket(&mesh, Some(&key.secret)).await.unwrap();
    mesh.call::<KeyRevoke>("user:admin", RevokeRequest { id: key.key.id })
        .await
        .unwrap();
    assert!(redeem(&mesh, &left).await.unwrap_err().is(Code::Unauthorized));
    let token = mesh.join_token("bob").await.secret;
    assert!(ticket(&mesh, Some(&token)).await.unwrap_err().is(Code::Forbidden));
    assert!(ticket(&mesh, None).await.unwrap_err().is(Code::Unauthorized));
}

#[tokio::test]
async fn in_development_a_ticket_is_the_developers() {
    let mesh = Mesh::in_development().await;
    let made = ticket(&mesh, None).await.unwrap();
    let who = redeem(&mesh, &made).await.unwrap();
    assert_eq!((who.actor.as_str(), who.role, who.standing), ("dev", Role::Owner, None));
    assert!(redeem(&mesh, &made).await.is_err());
}
