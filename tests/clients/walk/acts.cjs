// What people do with the page, one after the other, with an error of each kind. All words come from the page's own
// dictionary: nothing is found by its place among others.
const fs = require('node:fs')
const { ask, go, logIn, open, settled, walk } = require('./common.cjs')

walk(async (plan, browser) => {
  const { language, studies } = plan
  const page = await open(browser, plan, { language, theme: plan.theme, size: plan.size })
  const shot = name => page.screenshot({ path: `${plan.artefacts}/act-${name}-${language}-${plan.theme}-${plan.size}.png` })
  const done = []
  const step = async (name, run) => {
    try {
      await run()
      done.push(name)
    } catch (error) {
      await shot(`failed-${name.replaceAll(' ', '-')}`)
      throw new Error(`${name}: ${error.message}\n${await page.evaluate(() => document.body.innerText.slice(0, 1500))}`)
    }
  }
  await page.goto('/')
  // t("key", values), of a module and its dictionary.
  const t = (file, key, values = {}) => page.evaluate(async ([file, key, values]) => {
    const { t, register } = await import('./ui/core/i18n.js')
    register((await import(`./ui/texts/${file}.js`)).default)
    return t(key, values)
  }, [file, key, values])
  const button = (words, within = page) => within.getByRole('button', { name: words, exact: true })
  const says = words => page.getByText(words, { exact: false }).first().waitFor()
  const dialog = page.locator('dialog[open]')
  const main = page.locator('#main')
  const toast = () => page.locator('.toast').last()
  const calm = async () => { for (const each of await page.locator('.toast > button.icon').all()) await each.click().catch(() => {}) }
  const word = plan.root

  await step('a wrong password is told', async () => {
    await page.waitForURL(/#\/login/)
    await logIn(page, plan, plan.name, 'not this one')
    await says(await t('accounts', 'login.wrong'))
    await shot('login-wrong')
  })
  await step('one logs in', async () => {
    await logIn(page, plan)
    await page.waitForURL(/#\/studies/)
    await page.waitForSelector('.space .row .name')
  })
  const drop = async paths => {
    const session = await page.context().newCDPSession(page)
    for (const type of ['dragEnter', 'dragOver', 'drop']) {
      await session.send('Input.dispatchDragEvent', { type, x: 200, y: 300, data: { items: [], files: paths, dragOperationsMask: 1 } })
      if (type === 'dragOver') await shot('drop')
    }
  }
  await step('fifty files are dropped on the list and uploaded', async () => {
    await drop(plan.fifty)
    await page.waitForURL(/#\/upload/)
    await page.waitForSelector('.upload .progress.good', { timeout: 60000 })
    const counts = await page.evaluate(async () => (await import('./ui/core/upload.js')).uploads.counts)
    if (counts.stored !== 50) throw new Error(JSON.stringify(counts))
    await page.waitForSelector('.upload .studies a')
    await shot('upload')
  })
  await step('a file that is no DICOM is left out, and why is told', async () => {
    await drop([plan.noDicom])
    await says(await t('upload', 'upload.reason.not-dicom'))
    await shot('upload-no-dicom')
  })
  await step('the studies are searched as one types', async () => {
    await go(page, '/studies')
    await page.locator('#search').pressSequentially(word, { delay: 30 })
    await page.waitForFunction(() => document.querySelectorAll('.space .row .name').length === 2)
    await shot('search')
  })
  await step('a study is opened from the list', async () => {
    await page.locator('.space .row .name').first().click()
    await page.waitForSelector('.cards .series')
  })
  await step('a label is put on, found by, and taken off', async () => {
    await page.locator('.add-label').click()
    await dialog.locator('#label').fill('two words')
    await dialog.locator('button.primary').click()
    await dialog.locator('.failure:not([hidden])').waitFor()
    await shot('label-refused')
    await dialog.locator('#label').fill(`walk-${language}`)
    await dialog.locator('button.primary').click()
    await page.locator('.label a', { hasText: `walk-${language}` }).click()
    await page.waitForURL(/label=/)
    await page.waitForFunction(() => document.querySelectorAll('.space .row .name').length === 1)
    await shot('label')
    await page.goBack()
    await button(await t('study', 'study.label.remove', { label: `walk-${language}` })).click()
    await page.waitForFunction(() => !document.querySelector('.label a'))
  })
  await step('a study is downloaded', async () => {
    const [download] = await Promise.all([page.waitForEvent('download'), button(await t('study', 'study.download')).click()])
    const path = await download.path()
    if (fs.readFileSync(path).subarray(0, 2).toString() !== 'PK' || fs.statSync(path).size < 10000) throw new Error('no ZIP')
    if (!download.suggestedFilename().endsWith('.zip')) throw new Error(download.suggestedFilename())
  })
  const isAt = async state => dialog.locator('.chip').getByText(await t('send', `send.state.${state}`), { exact: true }).waitFor()
  const send = async peer => {
    await button(await t('study', 'study.send')).click()
    await dialog.locator(`input[value=${peer}]`).check()
    await dialog.locator('.actions .primary').click()
  }
  await step('it is sent to another archive', async () => {
    await send('READING')
    await isAt('done')
    await shot('sent')
    await button(await t('send', 'send.close'), dialog).last().click()
    await ask('received', { count: plan.sent })
  })
  await step('a peer that is away is waited for, and the send cancelled', async () => {
    await send('AWAY')
    await isAt('waiting')
    await shot('send-away')
    await button(await t('send', 'send.cancel'), dialog).click()
    await isAt('cancelled')
    await button(await t('send', 'send.close'), dialog).last().click()
    await go(page, '/sends')
    await page.waitForSelector('table tbody tr')
    await shot('sends')
  })
  await step('it is deleted, and taken back', async () => {
    await go(page, `/studies/${studies[0]}`)
    await button(await t('study', 'study.delete')).click()
    await toast().getByRole('button', { name: await t('study', 'study.undo') }).waitFor()
    await says(await t('study', 'study.gone'))
    await shot('deleted')
    await toast().getByRole('button', { name: await t('study', 'study.undo') }).click()
    await page.waitForSelector('.cards .series')
    await calm()
  })
  await step('several are ticked and deleted from the list, and had back from the trash', async () => {
    await go(page, `/studies?q=${word}`)
    await page.waitForFunction(() => document.querySelectorAll('.space .row .name').length === 2)
    for (const box of await page.locator('.space .row input').all()) await box.check()
    await button(await t('study', 'study.delete')).click()
    await dialog.locator('button.danger').click()
    await page.waitForSelector('.notices:not([hidden]) h2, .notices:not([hidden]) p')
    await calm()
    await go(page, '/trash')
    await page.waitForFunction(() => document.querySelectorAll('tbody tr').length >= 2)
    await shot('trash')
    for (let left = 2; left; left -= 1) {
      const row = page.locator('tbody tr', { hasText: word }).first()
      await row.getByRole('button').click()
      await page.waitForFunction(([word, left]) => [...document.querySelectorAll('tbody tr')].filter(row => row.innerText.includes(word)).length < left, [word, left])
    }
    await calm()
  })
  await step('a study that is gone says so', async () => {
    await go(page, '/studies/1.2.3.999')
    await says(await t('study', 'study.missing'))
    await go(page, `/view/1.2.3.999`)
    await page.waitForFunction(() => document.querySelector('#main').innerText.length > 10)
    await shot('view-gone')
  })
  await step('the viewer scrolls, and windows by drag', async () => {
    await go(page, `/view/${plan.study}`)
    const stage = page.locator('.panes canvas').first()
    await stage.waitFor()
    await page.waitForFunction(() => /1\s*[/／]\s*12/.test(document.querySelector('.panes').innerText))
    const box = await stage.boundingBox()
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2]
    await page.mouse.move(x, y)
    for (let turn = 0; turn < 3; turn += 1) {
      await page.mouse.wheel(0, 120)
      await page.waitForTimeout(120)
    }
    await page.waitForFunction(() => /[2-9]\s*[/／]\s*12/.test(document.querySelector('.panes').innerText))
    const texts = () => page.evaluate(() => document.querySelector('.panes').innerText)
    if (plan.size === 'phone') await page.keyboard.press('w')
    const [before, picture] = [await texts(), await stage.screenshot()]
    await page.mouse.down()
    await page.mouse.move(x + 80, y + 40, { steps: 8 })
    await page.mouse.up()
    await page.waitForTimeout(300)
    if (before === await texts() || picture.equals(await stage.screenshot())) throw new Error('the window is the same')
    await page.keyboard.press('i')
    await page.keyboard.press('m')
    await page.mouse.move(x - 60, y)
    await page.mouse.down()
    await page.mouse.move(x + 60, y, { steps: 6 })
    await page.mouse.up()
    await page.waitForTimeout(300)
    await shot('viewer')
  })
  await step('a peer answers, another does not', async () => {
    await go(page, '/peers')
    await button(await t('peers', 'peers.echo.all')).click()
    await page.waitForFunction(() => document.querySelectorAll('.chip.good').length >= 2 && document.querySelectorAll('.chip.bad').length >= 2)
    await shot('peers')
  })
  await step('an order is made with a mistake, then without', async () => {
    await go(page, '/worklist')
    await button(await t('worklist', 'worklist.new')).first().click()
    await dialog.locator('#order-family').fill(`Order${word}`)
    await dialog.locator('footer .primary').click()
    await dialog.locator('.failure:not([hidden])').waitFor() // names what is missing
    await shot('order')
    for (const [name, value] of [['id', 'O1'], ['procedure', 'CT Thorax'], ['modality', 'CT'], ['station', 'CT1'], ['time', '10:30']]) {
      await dialog.locator(`#order-${name}`).fill(value)
    }
    await dialog.locator('footer .primary').click()
    await dialog.waitFor({ state: 'detached' })
    await page.locator('tbody tr', { hasText: `Order${word}` }).waitFor()
  })
  await step('a dead job is tried again', async () => {
    await go(page, '/jobs?state=dead')
    await page.waitForSelector('tbody tr .chip.bad')
    await main.locator('.actions').getByRole('button').first().click()
    await page.waitForSelector('.toast')
    await calm()
  })
  await step('an account is refused a short password, then made and removed', async () => {
    await go(page, '/accounts')
    const name = `walker-${language.toLowerCase()}`
    await button(await t('accounts', 'accounts.add')).click()
    await dialog.locator('input').first().fill(name)
    await dialog.locator('input[type=password]').first().fill('short')
    await dialog.locator('button.primary').click()
    await dialog.locator('.failure:not([hidden])').waitFor()
    await shot('account-refused')
    await dialog.locator('input[type=password]').first().fill('long enough 1')
    await dialog.locator('button.primary').click()
    await dialog.waitFor({ state: 'detached' })
    const row = page.locator(`tr[data-account="${name}"]`)
    await row.waitFor()
    await row.getByRole('button', { name: await t('accounts', 'accounts.remove') }).click()
    await dialog.locator('button.danger').click()
    await row.waitFor({ state: 'detached' })
  })
  page.complaints.splice(0) // of refusals above
  await step('a server that is away is told in words, and the page goes on when it is back', async () => {
    await go(page, '/studies')
    await ask('stop')
    await page.locator('#search').fill('doe')
    await says(await t('core', 'core.offline'))
    await shot('offline')
    await ask('start')
    await page.locator('.notices button').first().click()
    await page.waitForSelector('.space .row .name')
    await calm()
  })
  await step('one logs out', async () => {
    if (plan.size === 'phone') await page.locator('#top .menu').click()
    await button(await t('core', 'core.logout')).click()
    await page.waitForURL(/#\/login/)
    await page.locator('#login-name').waitFor()
    await go(page, '/login?next=%2Fjobs')
    if (await page.evaluate(async () => (await fetch('dicom-web/studies')).status) !== 401) throw new Error('still in')
  })
  return { done, complaints: page.complaints.filter(each => !/net::ERR|status of/.test(each)) }
})
