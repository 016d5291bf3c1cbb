/** What a model writes is text, whatever it looks like: nothing of it runs, and nothing of it is fetched. */
import { ask, callsOf, llm, start, tool, until } from "./support/agents";
import { outsideUrl } from "./support/outside";
import { declare, post } from "./support/seed";
import { expect, settled, test } from "./support/test";

test("24: markup and images of a model run nothing and ask for nothing, on any page", async ({ page, meshUrl }, info) => {
	const agent = `hostile-${info.project.name}`;
	const pixel = `${outsideUrl("pixel")}/${agent}`;
	const said = [
		`<img src="${pixel}" onerror="window.hacked = 1"><script>window.hacked = 2</script>`,
		`![a picture](${pixel}) <svg onload="window.hacked = 3"></svg> [a link](javascript:window.hacked=4)`,
		`<iframe src="${pixel}"></iframe> <style>@import url("${pixel}")</style>`,
	].join("\n\n");
	const asks: string[] = [];
	page.on("request", (request) => {
		if (!request.url().startsWith(meshUrl)) asks.push(request.url());
	});
	await declare({ url: meshUrl }, agent, llm("echo"));
	const session = `hostile-${info.project.name}`;
	const id = await start(meshUrl, agent, said, { session });
	await until(meshUrl, id, "completed");
	const asking = `${agent}-tool`;
	await declare({ url: meshUrl }, asking, llm("tools", [tool("pay", agent, "idempotent", { approval: "always" })]));
	const waits = await start(meshUrl, asking, JSON.stringify({ note: said }));
	await until(meshUrl, waits, "waiting");
	await post(meshUrl, "/api/v1/memories", { agent, type: "semantic", content: said });
	const pages = [
		`chat?agent=${agent}&session=${session}`,
		`invocations/${id}`,
		`invocations/${id}?tab=saw`,
		`invocations/${id}?tab=raw`,
		`invocations?agent=${agent}`,
		`invocations/${waits}`,
		"attention",
		`memory?agent=${agent}`,
	];
	for (const path of pages) {
		await page.goto(`/t/default/${path}`);
		await settled(page);
		// It is there to read, as it was written.
		await expect(page.getByText(/onerror=/).first(), path).toBeAttached();
		expect(await page.locator("main img, main iframe, main script, main a[href^='javascript:'], main svg[onload]").count(), path).toBe(0);
		expect(await page.evaluate(() => (window as unknown as { hacked?: number }).hacked), path).toBeUndefined();
	}
	expect(asks).toEqual([]);
	expect(await callsOf(`pixel/${agent}`)).toEqual([]);
	await post(meshUrl, `/api/v1/invocations/${waits}/cancel`, {});
	expect((await ask(meshUrl, agent, "still there")).output?.text).toContain("still there");
});
