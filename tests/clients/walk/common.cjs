// Playwright over Debian's Chromium, for the walks through the web page. A script is run as: node script.cjs MODULES,
// its plan comes as one line of JSON, its findings go out as the last one. In between it may ask the test to do something
// to the servers: a line {"ask": name} goes out, and a line comes back when it is done.
const readline = require('node:readline')

const modules = process.argv[2]
const { chromium } = require(`${modules}/playwright-core`)
const axePath = require.resolve(`${modules}/axe-core/axe.min.js`)

const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const say = value => process.stdout.write(JSON.stringify(value) + '\n')
const hear = async () => JSON.parse((await lines.next()).value)
// In software: there is no graphics card where tests run. It costs much, and only OHIF needs it.
const WEBGL = ['--use-gl=angle', '--use-angle=swiftshader', '--enable-unsafe-swiftshader']
const SIZES = { desktop: { width: 1400, height: 900 }, phone: { width: 390, height: 844 } }

async function ask(name, more = {}) {
  say({ ask: name, ...more })
  const { failed } = await hear()
  if (failed) throw new Error(`${name}: ${failed}`)
}

// Run with the plan and a browser; whatever happens, one line of findings goes out.
async function walk(run) {
  const plan = await hear()
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-dev-shm-usage', ...(plan.needsWebGl ? WEBGL : ['--disable-gpu']),
      '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1']
  })
  try {
    say({ found: await run(plan, browser) })
  } catch (error) {
    say({ failed: error.stack || String(error) })
  } finally {
    await browser.close()
    process.exit(0)
  }
}

// A window of somebody who has chosen a language and colours.
async function open(browser, plan, { language = 'en', theme = 'light', size = 'desktop', state } = {}) {
  const context = await browser.newContext({
    viewport: SIZES[size], baseURL: plan.url, storageState: state, acceptDownloads: true, hasTouch: size === 'phone', reducedMotion: 'reduce'
  })
  await context.addInitScript(([language, theme]) => {
    localStorage.setItem('pacs.language', language)
    localStorage.setItem('pacs.theme', theme)
  }, [language, theme])
  const page = await context.newPage()
  page.setDefaultTimeout(20000)
  page.complaints = []
  page.on('pageerror', error => page.complaints.push(`exception: ${error.message}`))
  page.on('console', message => message.type() === 'error' && page.complaints.push(message.text()))
  return page
}

const settled = page => page.waitForFunction(() => document.querySelector('#main > *')
  && !document.querySelector('#main[aria-busy], #main .grid[aria-busy], #main [aria-busy=true]:not(.row)'))

async function go(page, at) {
  await page.goto(`/#${at}`)
  await page.waitForFunction(at => !!document.querySelector('#main > *') && location.hash.startsWith(`#${at.split('?')[0]}`), at)
  await settled(page)
}

async function logIn(page, plan, name = plan.name, password = plan.password) {
  await page.goto('/#/login')
  await page.locator('#login-name').fill(name)
  await page.locator('#login-password').fill(password)
  await page.locator('form button[type=submit]').click()
}

// Rules of WCAG 2.x A and AA, and axe's own advice; only what is serious or critical, as short lines.
async function axe(page) {
  // Through the protocol: the page's own policy lets no foreign script in.
  await page.evaluate(require('node:fs').readFileSync(axePath, 'utf8'))
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }))
  return violations.filter(({ impact }) => ['serious', 'critical'].includes(impact)).flatMap(({ id, nodes }) =>
    nodes.slice(0, 4).map(node => `${id}: ${node.target.join(' ')}: ${(node.any[0] || node.all[0] || node.none[0])?.message || ''}`))
}

module.exports = { SIZES, ask, axe, go, logIn, open, settled, walk }
