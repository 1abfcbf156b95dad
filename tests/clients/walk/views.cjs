// Every view in both languages, light and dark, wide and narrow: a picture of each, and what is wrong with it.
const { axe, go, logIn, open, walk } = require('./common.cjs')

// Runs in the page: a key of the dictionary that is shown in place of its words, and what reaches beyond the window.
function look() {
  const wrong = []
  const text = document.body.innerText
  for (const [key] of text.matchAll(/\b(core|nav|studies|study|view|upload|worklist|send|jobs|peers|system|trash|accounts|me|login|tokens|role|scope|help|notice|password)\.[a-zA-Z.]+\b/g)) {
    if (!/\.(js|py|org|example|toml|sqlite|md|properties|dcm)$/.test(key)) wrong.push(`key: ${key}`)
  }
  if (/undefined|NaN|\[object|null(?![a-z])/.test(text)) wrong.push(`text: ${/.{0,40}(undefined|NaN|\[object|null(?![a-z])).{0,20}/.exec(text)[0]}`)
  const beyond = Math.max(document.documentElement.scrollWidth - innerWidth, document.getElementById('main').scrollWidth - document.getElementById('main').clientWidth)
  if (beyond > 0) wrong.push(`beyond the window by ${beyond} px`)
  // A button whose words do not fit.
  for (const button of document.querySelectorAll('button, a.button, select, .chip')) {
    const box = button.getBoundingClientRect()
    if (box.width && button.scrollWidth > button.clientWidth + 2 && getComputedStyle(button).overflow !== 'visible') wrong.push(`cut off: ${button.innerText.slice(0, 40)}`)
  }
  return wrong
}

walk(async (plan, browser) => {
  const found = {}
  const first = await open(browser, plan)
  await logIn(first, plan)
  await first.waitForURL(/#\/studies/)
  const state = await first.context().storageState()
  await first.context().close()
  for (const { language, theme, size } of plan.looks) {
    const note = async (page, name) => {
      await page.screenshot({ path: `${plan.artefacts}/${name}-${language}-${theme}-${size}.png` })
      const wrong = [...await page.evaluate(look), ...await axe(page), ...page.complaints.splice(0).filter(each => !/status of (404|410)/.test(each))]
      if (wrong.length) found[`${name} ${language} ${theme} ${size}`] = wrong
    }
    const out = await open(browser, plan, { language, theme, size })
    await go(out, '/login')
    await note(out, 'login')
    await out.context().close()
    const page = await open(browser, plan, { language, theme, size, state })
    for (const { name, at, ready, press } of plan.views) {
      try {
        await go(page, at)
        if (ready) await page.waitForSelector(ready)
        if (press) {
          await page.locator(press).first().click()
          await page.waitForSelector('dialog[open], .selection:not([hidden])')
        }
      } catch (error) {
        found[`${name} ${language} ${theme} ${size} never came`] = [error.message.slice(0, 300)]
      }
      await page.waitForTimeout(300) // pictures and plots are drawn
      await note(page, name)
      if (press) await page.reload()
    }
    await page.context().close()
  }
  return found
})
