//! `tenant-ensure`, `tenant-list`, and the tenant that other changes need.

use std::sync::Arc;

use mesh_api::registry::{TenantRequest, TenantView};
use mesh_api::{Caller, Page, PageQuery};
use mesh_types::event::Fact;
use mesh_types::{Code, Problem, Tenant};
use sqlx::PgConnection;

use crate::state::{State, failed};
use crate::store::tenants as store;

pub(super) async fn ensure(state: Arc<State>, caller: Caller, request: TenantRequest) -> Result<TenantView, Problem> {
    // The event belongs to the tenant that it tells of.
    let caller = Caller {
        role: None,
        tenant: request.name,
        ..caller
    };
    let mut tx = state.begin(&caller.tenant).await?;
    require(&state, &mut tx, &caller).await?;
    let tenant = store::get(&mut *tx, &caller.tenant)
        .await
        .map_err(failed("reading a tenant"))?;
    state.commit(tx).await?;
    tenant.ok_or_else(|| missing(&caller.tenant))
}

pub(super) async fn list(state: Arc<State>, _: Caller, query: PageQuery) -> Result<Page<TenantView>, Problem> {
    let after: Option<Tenant> = super::agents::cursor(query.after.as_deref())?;
    let limit = query.limit();
    let items = store::list(&state.pool, after.as_ref(), i64::from(limit) + 1)
        .await
        .map_err(failed("listing tenants"))?;
    Ok(Page::cut(items, limit, |tenant| tenant.name.to_string()))
}

/// The caller's tenant exists when this returns: it did, or it is created where the configuration allows it.
pub(super) async fn require(state: &State, tx: &mut PgConnection, caller: &Caller) -> Result<(), Problem> {
    let tenant = &caller.tenant;
    if store::get(&mut *tx, tenant)
        .await
        .map_err(failed("reading a tenant"))?
        .is_some()
    {
        return Ok(());
    }
    if !state.config.auto_create_tenants {
        return Err(missing(tenant));
    }
    let at = state.context.clock.now();
    if store::insert(tx, tenant, at, &caller.actor)
        .await
        .map_err(failed("creating a tenant"))?
    {
        state
            .record(tx, caller, Fact::TenantCreated { name: tenant.clone() })
            .await?;
    }
    Ok(())
}

/// For reads: an unknown tenant is only worth an error of its own where it is not created at the first write.
pub(super) async fn check(state: &State, tx: &mut PgConnection, tenant: &Tenant) -> Result<(), Problem> {
    if state.config.auto_create_tenants {
        return Ok(());
    }
    let known = store::get(tx, tenant).await.map_err(failed("reading a tenant"))?;
    if known.is_some() { Ok(()) } else { Err(missing(tenant)) }
}

fn missing(tenant: &Tenant) -> Problem {
    Problem::new(Code::TenantNotFound, format!("there is no tenant `{tenant}`")).next(
        "name an existing tenant, or let the registry create tenants named for the first time \
         (MESH_REGISTRY__AUTO_CREATE_TENANTS=true)",
    )
}
