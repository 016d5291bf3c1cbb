//! Tenants do not see each other, and exist only where they may.

use mesh_api::PageQuery;
use mesh_api::registry::{
    AgentCreate, AgentGet, AgentList, AgentPublish, AgentRequest, AgentResolve, ResolveRequest, TenantEnsure,
    TenantList, TenantRequest,
};
use mesh_types::Code;

use crate::setup::{Mesh, agent, guarded, tenant};

#[tokio::test]
async fn one_name_in_two_tenants_is_two_agents() {
    let mesh = Mesh::start().await;
    for name in ["default", "daarion"] {
        mesh.call_as::<AgentCreate>(name, agent("sofia", name)).await.unwrap();
        mesh.call_as::<AgentPublish>(name, guarded("sofia", None))
            .await
            .unwrap();
    }
    mesh.create("only-here").await;
    for (name, count) in [("default", 2), ("daarion", 1), ("unheard-of", 0)] {
        let page = mesh.call_as::<AgentList>(name, PageQuery::default()).await.unwrap();
        assert_eq!(page.items.len(), count, "{name}");
    }
    let get = AgentRequest {
        agent: "sofia".parse().unwrap(),
    };
    assert_eq!(
        mesh.call_as::<AgentGet>("daarion", get.clone())
            .await
            .unwrap()
            .spec
            .instructions,
        "daarion"
    );
    assert!(
        mesh.call_as::<AgentGet>("unheard-of", get)
            .await
            .unwrap_err()
            .is(Code::AgentNotFound)
    );
    let request = ResolveRequest {
        tenant: tenant("daarion"),
        agent: "sofia".parse().unwrap(),
    };
    assert_eq!(
        mesh.call::<AgentResolve>(request).await.unwrap().tenant,
        tenant("daarion")
    );
    let tenants = mesh.call::<TenantList>(PageQuery::default()).await.unwrap();
    let names: Vec<_> = tenants.items.iter().map(|tenant| tenant.name.to_string()).collect();
    assert_eq!(names, ["daarion", "default"], "reading creates none");
}

#[tokio::test]
async fn an_unknown_tenant_is_refused_where_none_is_created() {
    let mesh = Mesh::start_with(|config| config.auto_create_tenants = false).await;
    let request = ResolveRequest {
        tenant: tenant("daarion"),
        agent: "sofia".parse().unwrap(),
    };
    let problems = [
        mesh.call::<AgentCreate>(agent("sofia", "x")).await.unwrap_err(),
        mesh.call::<AgentList>(PageQuery::default()).await.unwrap_err(),
        mesh.call::<AgentResolve>(request).await.unwrap_err(),
        mesh.call::<TenantEnsure>(TenantRequest {
            name: tenant("daarion"),
        })
        .await
        .unwrap_err(),
    ];
    for problem in problems {
        assert!(problem.is(Code::TenantNotFound), "{problem:?}");
        assert!(problem.next.unwrap().contains("MESH_REGISTRY__AUTO_CREATE_TENANTS"));
    }
    assert_eq!(mesh.call::<TenantList>(PageQuery::default()).await.unwrap().items, []);
}
