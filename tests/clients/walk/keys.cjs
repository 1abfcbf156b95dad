// Every view by keyboard alone: what the Tab key reaches, whether one sees where one is, and what dialogs do with the focus.
const { go, logIn, open, walk } = require('./common.cjs')

const MOST_STOPS = 150

// Runs in the page. Everything that can be done and is in sight, numbered; what one key does for all rows of a list (its
// links have tabindex -1), and all but one of a group of radio buttons, are reached by arrows.
function number() {
  const found = []
  for (const element of document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex]')) {
    if (element.tabIndex < 0 || element.disabled || element.type === 'radio') continue
    const box = element.getBoundingClientRect()
    if (!box.width || !box.height || !element.checkVisibility({ visibilityProperty: true }) || element.id === 'main') continue
    element.dataset.walk = String(found.length)
    found.push(`${element.tagName.toLowerCase()} ${(element.getAttribute('aria-label') || element.innerText || element.id || element.type || '').trim().slice(0, 50)}`)
  }
  return found
}

// Runs in the page: where the focus is, and whether that is seen.
function here() {
  const element = document.activeElement
  const style = getComputedStyle(element)
  const hasOutline = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0
  const active = element.getAttribute('aria-activedescendant')
  const isSeen = hasOutline || style.boxShadow !== 'none' || element.id === 'main' || element === document.body || !!active || element.matches('.grid')
  const name = `${element.tagName.toLowerCase()} ${(element.getAttribute('aria-label') || element.innerText || element.id || '').trim().slice(0, 50)}`
  return { mark: element.dataset.walk ?? null, isSeen, name, isBody: element === document.body, inDialog: !!element.closest('dialog') }
}

async function through(page, wrong, name) {
  const all = await page.evaluate(number)
  const reached = new Set()
  let rounds = 0
  for (let stop = 0; stop < MOST_STOPS && rounds < 2 && reached.size < all.length; stop += 1) {
    await page.keyboard.press('Tab')
    const at = await page.evaluate(here)
    if (at.isBody) rounds += 1
    else if (!at.isSeen) wrong.push(`${name}: no sight of the focus on ${at.name}`)
    if (at.mark !== null) reached.add(Number(at.mark))
  }
  if (all.length < MOST_STOPS) all.forEach((each, at) => reached.has(at) || wrong.push(`${name}: never reached: ${each}`))
  return reached.size
}

// Open it by Enter on what has the focus; the focus goes in, stays in, and goes back when Escape closes it.
async function dialogOf(page, wrong, name, opener) {
  const button = page.locator(opener).first()
  await button.waitFor()
  await button.focus()
  await page.keyboard.press('Enter')
  await page.locator('dialog[open]').waitFor()
  await page.waitForTimeout(300)
  if (!(await page.evaluate(here)).inDialog) wrong.push(`${name}: the focus is not in the dialog`)
  for (let stop = 0; stop < 25; stop += 1) {
    await page.keyboard.press('Tab')
    const at = await page.evaluate(here)
    if (!at.inDialog && !at.isBody) wrong.push(`${name}: the focus leaves the dialog to ${at.name}`)
    if (at.inDialog && !at.isSeen) wrong.push(`${name}: no sight of the focus on ${at.name}`)
  }
  await page.keyboard.press('Escape')
  await page.locator('dialog[open]').waitFor({ state: 'detached' })
  await page.waitForTimeout(100)
  if (!await button.evaluate(element => element === document.activeElement)) wrong.push(`${name}: the focus does not go back, but to ${(await page.evaluate(here)).name}`)
}

walk(async (plan, browser) => {
  const wrong = []
  const page = await open(browser, plan)
  await logIn(page, plan)
  await page.waitForURL(/#\/studies/)
  let reached = 0
  for (const { name, at, ready, press } of plan.views) {
    if (press) continue
    await go(page, at)
    if (ready) await page.waitForSelector(ready)
    // From the top of the document, as after a click into nothing.
    await page.evaluate(() => document.activeElement?.blur())
    reached += await through(page, wrong, name)
  }
  for (const { name, at, opener } of plan.dialogs) {
    await go(page, at)
    await dialogOf(page, wrong, name, opener)
  }
  // The list without a mouse: search, walk down, tick, open, and the viewer.
  await go(page, '/studies')
  await page.keyboard.press('/')
  await page.keyboard.type('phantom')
  await page.keyboard.press('ArrowDown') // before the answer is there
  await page.waitForFunction(() => document.querySelectorAll('.space .row .name').length === 1 && !!document.querySelector('.row.active') && document.activeElement.matches('.grid'))
  await page.keyboard.press('x')
  await page.waitForSelector('.selection:not([hidden])')
  await page.keyboard.press('Escape')
  await page.keyboard.press('Enter')
  await page.waitForURL(/#\/studies\/[0-9.]+$/)
  await page.waitForSelector('.cards')
  await page.keyboard.press('v')
  await page.waitForURL(/#\/view\//)
  await page.waitForFunction(() => /1\s*\/\s*12/.test(document.querySelector('.panes')?.innerText || ''))
  await page.keyboard.press('ArrowDown')
  await page.waitForFunction(() => /2\s*\/\s*12/.test(document.querySelector('.panes').innerText))
  await page.keyboard.press('?')
  await page.locator('dialog[open]').waitFor()
  return { reached, wrong }
})
